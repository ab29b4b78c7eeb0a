-- pause: nothing is delivered for the account until somebody resumes it.
-- include: common events
-- arg: reason
-- Answers 1.
local by, reason = unpack(redis.call('HMGET', key('pause'), 'by', 'reason'))
if by == 'operator' and reason == arg.reason then -- perhaps this same call, and its answer was lost
  return 1
end
redis.call('DEL', key('pause'))
redis.call('HSET', key('pause'), 'by', 'operator', 'reason', arg.reason, 'since', text(now.redis))
note_event('account.paused', { by = 'operator', reason = arg.reason })
return 1
