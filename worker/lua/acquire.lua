-- acquire: the next free slot of the account's pace, for the holder of a lease (GCRA).
-- ARGV: mailbox, token, microseconds between two requests, milliseconds of a lease
-- Answers milliseconds to wait for the slot, which is then taken; -1 when the lease is not valid.
-- The lease is good for that wait and the time to claim.
local mailbox, token = ARGV[1], ARGV[2]
local now = now_us()
if redis.call('HGET', key('leases'), mailbox) ~= token then
  return -1
end
-- The theoretical arrival time of the next request; unused time is not saved up.
local slot = math.max(now, tonumber(redis.call('GET', key('throttle')) or 0))
local after = slot + ARGV[3]
redis.call('SET', key('throttle'), text(after), 'PX', text(math.ceil((after - now) / 1000) + 1000))
redis.call('ZADD', key('inflight'), slot + ARGV[4] * 1000, mailbox)
return math.ceil((slot - now) / 1000)
