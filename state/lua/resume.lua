-- resume: the account's deliveries go on, and a hold or an open circuit is over, too.
-- include: common clock events
-- arg: by ('account' ends only a pause that the account's own fault began; absent for any)
-- Answers 1 when there was something to resume, else 0.
write_although_full()
read_clock()
local by, reason, since = unpack(redis.call('HMGET', key('pause'), 'by', 'reason', 'since'))
if arg.by and by ~= arg.by then
  return 0
end
if by then
  redis.call('DEL', key('pause'))
  note_event('account.resumed', { by = by, reason = reason or '', since = since or text(now.redis) })
end
if arg.by then
  return 1
end
local hold = tonumber(redis.call('HGET', key('pace'), 'hold') or 0) > now.account
local anything = by or hold or redis.call('HEXISTS', key('circuit'), 'opened') == 1
redis.call('HDEL', key('pace'), 'hold', 'holds')
end_circuit('an operator resumed the account')
redis.call('DEL', key('probes'))
return anything and 1 or 0
