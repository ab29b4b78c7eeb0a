-- probe: whether it is time to ask if a paused account works again, and whose turn it is.
-- ARGV: for each probe in turn: milliseconds before it; the last one repeats
-- Answers 1 for one caller when a probe is due, else 0.
local probe = redis.call('HGET', key('pause'), 'probe')
local now = now_us()
if not probe or tonumber(probe) > now then
  return 0
end
redis.call('INCR', key('probes'))
redis.call('EXPIRE', key('probes'), 24 * 60 * 60)
redis.call('HSET', key('pause'), 'probe', text(now + probe_delay_ms(ARGV, 1) * 1000))
return 1
