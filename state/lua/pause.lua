-- pause: nothing is delivered for the account until somebody resumes it.
-- include: common
-- arg: reason
-- Answers 1.
redis.call('DEL', key('pause'))
redis.call('HSET', key('pause'), 'by', 'operator', 'reason', arg.reason, 'since', text(now.redis))
return 1
