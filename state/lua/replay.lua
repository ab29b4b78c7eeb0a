-- replay: a job that ended without being delivered goes back to the inbox, as it was asked for.
-- ARGV: job id
-- Answers 1, or 0 when its outcome is another one or its values are not kept.
local outcome = key('outcome:' .. ARGV[1])
local found = redis.call('HMGET', outcome, 'status', 'document', 'mailbox', 'lane')
local replayable = { failed = true, unmatched = true, unconfirmed = true, refused = true }
if not found[1] and redis.call('HEXISTS', key('inbox'), ARGV[1]) == 1 then
  return 1 -- it was put back by this same call, whose answer was lost
end
if not found[1] or not replayable[found[1]] or not found[2] then
  return 0
end
redis.call('HSET', key('inbox'), ARGV[1], found[2])
redis.call('ZADD', key('inbox:' .. found[4]), math.floor(now_us() / 1000), ARGV[1])
redis.call('LREM', key('outcomes:' .. found[3]), 0, ARGV[1])
redis.call('DEL', outcome)
return 1
