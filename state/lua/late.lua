-- late: a request left later than it was counted for, so that those after it can keep their distance.
-- ARGV: the time at which it was counted as sent, the time at which it left
-- Answers nothing.
local position = redis.call('LPOS', key('sent'), ARGV[1])
if position then
  redis.call('LSET', key('sent'), position, ARGV[2])
end
