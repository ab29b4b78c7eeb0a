-- resume: the account's deliveries go on, and a hold or an open circuit is over, too.
-- ARGV: 'account' to end only a pause that the account's own fault began, else ''
-- Answers 1 when there was something to resume, else 0.
local by = redis.call('HGET', key('pause'), 'by')
if ARGV[1] ~= '' then
  return by == ARGV[1] and redis.call('DEL', key('pause')) or 0
end
local hold = tonumber(redis.call('HGET', key('throttle'), 'hold') or 0) > now_us()
local anything = by or hold or redis.call('HEXISTS', key('circuit'), 'opened') == 1
redis.call('HDEL', key('throttle'), 'hold', 'holds')
redis.call('DEL', key('pause'), key('circuit'), key('probes'))
return anything and 1 or 0
