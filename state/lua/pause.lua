-- pause: nothing is delivered for the account until somebody resumes it.
-- ARGV: reason in words
-- Answers nothing.
redis.call('DEL', key('pause'))
redis.call('HSET', key('pause'), 'by', 'operator', 'reason', ARGV[1], 'since', text(now_us()))
