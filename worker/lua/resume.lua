-- resume: the account's deliveries go on, and a hold or an open circuit is over, too.
-- ARGV: 'account' to end only a pause that the account's own fault began, else ''
-- Answers 1 when there was something to resume, else 0.
local by = redis.call('HGET', key('pause'), 'by')
if ARGV[1] ~= '' then
  return by == ARGV[1] and redis.call('DEL', key('pause')) or 0
end
redis.call('HDEL', key('throttle'), 'hold', 'holds')
return math.min(1, redis.call('DEL', key('pause'), key('circuit'), key('probes')))
