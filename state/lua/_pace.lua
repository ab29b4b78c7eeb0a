-- The account's pace: a rate that gives way to 429s, and one ledger of send times.
-- `pace` is a hash, read once and written once: `rate` was in force `at`, cut `cut` from `ceiling`;
-- nothing is sent before `hold`; what `observe` counts; how many `claims` there were; the `last` send
-- time; when it was last `looked` what has fallen due.
-- `ledger` is a sorted set: one entry for each request, with the time at which it leaves.
-- All times are the account's.
local AHEAD_US = 1000000 -- no time is reserved that is farther away

local PACE = { 'rate', 'at', 'cut', 'ceiling', 'hold', 'holds', 'objected', 'limited', 'claims', 'last', 'looked' }
local pace, pace_changed = {}, {}
for i, content in ipairs(redis.call('HMGET', key('pace'), unpack(PACE))) do
  pace[PACE[i]] = tonumber(content)
end

local function set_pace(name, number)
  pace[name] = number
  pace_changed[name] = true
end

local function write_pace()
  local fields, gone = {}, {}
  for name in pairs(pace_changed) do
    if pace[name] then
      fields[#fields + 1] = name
      fields[#fields + 1] = string.format('%.17g', pace[name])
    else
      gone[#gone + 1] = name
    end
  end
  if #fields > 0 then
    redis.call('HSET', key('pace'), unpack(fields))
  end
  if #gone > 0 then
    redis.call('HDEL', key('pace'), unpack(gone))
  end
end

-- Requests a second now. After a cut the rate comes back by itself: quickly to near where ChartMogul
-- objected, then slowly, and faster the longer it has not objected again.
local function current_rate(allowed)
  if not pace.rate then
    return allowed
  end
  local elapsed_s = math.max(0, now.account - pace.at) / 1000000
  local since_cut_s = math.max(0, now.account - (pace.cut or 0)) / 1000000
  local near = 0.95 * (pace.ceiling or allowed)
  local quick = 0.02 * allowed
  local slow = math.min(quick, 0.001 * allowed * (1 + (since_cut_s / 10) ^ 2))
  local quick_s = math.min(elapsed_s, math.max(0, near - pace.rate) / quick)
  return math.min(allowed, pace.rate + quick_s * quick + (elapsed_s - quick_s) * slow)
end

-- How many requests may leave in how many microseconds: 40 in 1.02 s at 39.2 a second, where
-- ChartMogul counts 40 a second. And the least distance between two.
local MANY = 50
local function window(allowed)
  local rate = current_rate(allowed)
  local many = math.min(math.floor(rate) + 1, MANY)
  return many, many * 1000000 / rate, 980000 / rate
end

-- When the account's next request may leave. Time that was not used is not saved up.
local function send_time(allowed)
  local many, window_us, interval_us = window(allowed)
  local before = redis.call('ZRANGE', key('ledger'), -many, -many, 'WITHSCORES')[2]
  return math.max(now.account, pace.hold or 0, (pace.last or 0) + interval_us, (before or 0) + window_us)
end

local function reserve(token, at)
  redis.call('ZADD', key('ledger'), text(at), token)
  set_pace('last', at)
end

-- A request that leaves late crowds those behind it, so it is counted when it leaves; and it waits
-- where the window before it is full by now. Answers microseconds to wait.
local function check_late(token, at, allowed)
  local many, window_us = window(allowed)
  local before = redis.call('ZREVRANGEBYSCORE', key('ledger'), text(now.account), '-inf', 'WITHSCORES',
    'LIMIT', many, 1)[2]
  local wait_us = before and tonumber(before) + window_us - now.account or 0
  if wait_us > 0 or now.account - at > 2000 then
    local leaves = now.account + math.max(0, wait_us)
    redis.call('ZADD', key('ledger'), 'XX', text(leaves), token)
    set_pace('last', math.max(pace.last or 0, leaves))
  end
  return math.max(0, wait_us)
end
