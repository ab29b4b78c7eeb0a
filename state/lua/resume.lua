-- resume: the account's deliveries go on, and a hold or an open circuit is over, too.
-- include: common clock
-- arg: by ('account' ends only a pause that the account's own fault began; absent for any)
-- Answers 1 when there was something to resume, else 0.
read_clock()
local by = redis.call('HGET', key('pause'), 'by')
if arg.by then
  return by == arg.by and redis.call('DEL', key('pause')) or 0
end
local hold = tonumber(redis.call('HGET', key('pace'), 'hold') or 0) > now.account
local anything = by or hold or redis.call('HEXISTS', key('circuit'), 'opened') == 1
redis.call('HDEL', key('pace'), 'hold', 'holds')
redis.call('DEL', key('pause'), key('circuit'), key('probes'))
return anything and 1 or 0
