-- acquire: the next free slot of the account's pace, for the holder of a lease (GCRA).
-- ARGV: mailbox, token, requests a second allowed, milliseconds in which a slot must be claimed
-- Answers milliseconds to wait for the slot, which is then taken, or -1: the lease is not valid, or
-- was given back because the account is paused or its next slot is far.
local mailbox, token, allowed = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = now_us()
if redis.call('HGET', key('leases'), mailbox) ~= token then
  return -1
end
local slot = next_slot(now)
if redis.call('EXISTS', key('pause')) == 1 or slot - now > FAR_US then
  give_back(mailbox, now)
  return -1
end
local rate = current_rate(allowed, now)
redis.call('HSET', key('throttle'), 'slot', text(slot + 1000000 / rate), 'rate', rate, 'at', text(now))
redis.call('PEXPIRE', key('throttle'), THROTTLE_MS)
redis.call('ZADD', key('inflight'), slot + ARGV[4] * 1000, mailbox)
return math.ceil((slot - now) / 1000)
