-- observe: what an answer says of the account as a whole: its pace, its server, its key.
-- ARGV: kind of the verdict, microseconds at which its request was claimed, requests a second
--   allowed, milliseconds of Retry-After ('' for none), reason in words,
--   failures in a row that open the circuit,
--   for each probe of a paused account in turn: milliseconds before it; the last one repeats
-- Answers 1 when this answer paused the account, else 0.
local kind, claimed, allowed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_us()
local paused = 0
local throttle, circuit, pause = key('throttle'), key('circuit'), key('pause')

-- The share of 429s among the answers, the last seconds counting most. One that was under way when
-- another was answered tells nothing new: both come of the same crowded second.
local counts = redis.call('HMGET', throttle, 'answers', 'limited', 'counted', 'objected', 'holds')
local fading = 0.5 ^ (math.max(0, now - (tonumber(counts[3]) or now)) / 2000000)
local news = kind == 'pace' and claimed > (tonumber(counts[4]) or 0)
local answers = (tonumber(counts[1]) or 0) * fading + 1
local limited = (tonumber(counts[2]) or 0) * fading + (news and 1 or 0)
redis.call('HSET', throttle, 'answers', answers, 'limited', limited, 'counted', text(now))
redis.call('PEXPIRE', throttle, THROTTLE_MS)

if news then
  local holds = (tonumber(counts[5]) or 0) + 1
  local hold_ms = tonumber(ARGV[4]) or math.min(60000, 25 * 2 ^ math.min(holds, 12))
  redis.call('HSET', throttle, 'objected', text(now), 'holds', holds, 'hold', text(now + hold_ms * 1000))
  redis.call('PEXPIRE', throttle, THROTTLE_MS + hold_ms)
  -- One alone is a request that was late on its way, and crowded a second that was not its own.
  local share = limited / math.max(answers, 60)
  if share > 0.02 then
    local rate = current_rate(allowed, now)
    redis.call('HSET', throttle, 'rate', math.max(allowed / 100, rate * (1 - math.max(share, 0.03))),
      'at', text(now), 'ceiling', rate, 'cut', text(now))
  end
elseif kind == 'server' then
  -- Open, the circuit lets one probe delivery through at a time, at growing intervals.
  local state = redis.call('HMGET', circuit, 'failures', 'opened', 'last')
  local failures = tonumber(state[1]) or 0
  if not state[2] or claimed > tonumber(state[3]) then
    failures = failures + 1
    redis.call('HSET', circuit, 'failures', failures, 'last', text(now), 'reason', ARGV[5])
    local beyond = failures - ARGV[6]
    if beyond >= 0 then
      redis.call('HSETNX', circuit, 'opened', text(now))
      redis.call('HSET', circuit, 'next', text(now + math.min(60, 2 ^ math.min(beyond, 10)) * 1000000))
    end
  end
  redis.call('EXPIRE', circuit, COUNTED_S)
elseif kind == 'account' and redis.call('EXISTS', pause) == 0 then
  redis.call('HSET', pause, 'by', 'account', 'reason', ARGV[5], 'since', text(now),
    'probe', text(now + probe_delay_ms(ARGV, 7) * 1000))
  paused = 1
end

if kind ~= 'pace' and kind ~= 'server' then
  redis.call('DEL', circuit)
end
if kind ~= 'pace' then
  redis.call('HDEL', throttle, 'holds')
end
if kind ~= 'account' and kind ~= 'pace' and kind ~= 'server' then
  redis.call('DEL', key('probes'))
end
return paused
