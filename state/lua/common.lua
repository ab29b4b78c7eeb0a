-- What the worker's scripts share; put in front of each.
-- KEYS[1] is the account's prefix: all its keys are in one slot, and names are built from it.
-- Numbers above 2^53 / 10^14 lose digits in Lua's text form: format them with '%.0f'.
local prefix = KEYS[1]
local VERSION = 52 -- a version: 16 digits of microseconds, then the job id's 36 characters
local HISTORY = 100 -- jobs listed for an email
local STREAM = 250000 -- outcomes listed for an account
local COUNTED_S = 2 * 60 * 60 -- how long outcomes are counted by the minute

local function key(name)
  return prefix .. name
end

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function text(number)
  return string.format('%.0f', number)
end

local function job_of(version)
  return string.sub(version, 17, VERSION)
end

-- Both a mailbox's '#' fields and the entries of `delivered` begin with a version.
local function version_of(entry)
  return string.sub(entry, 1, VERSION)
end

local function after_version(entry)
  return string.sub(entry, VERSION + 1)
end

-- A mailbox holds key → number and payload, '#number' → the version of a job and how many values are
-- its own, and '@…' → state.
local function is_value(field)
  local mark = string.sub(field, 1, 1)
  return mark ~= '@' and mark ~= '#'
end

local function number_of(held)
  return string.match(held, '^%d+')
end

local finished = {} -- live jobs that this script has brought to their end

-- Writes what became of a job, once and for all, and lists it under its email. `number`: the job's
-- in its mailbox, or nil.
local function finish(job, mailbox, number, status, now, retention)
  local outcome = key('outcome:' .. job)
  redis.call('HSET', outcome, 'status', status, 'settled', text(now))
  redis.call('HDEL', outcome, 'next')
  redis.call('EXPIRE', outcome, retention)
  if number then
    redis.call('HDEL', key('mailbox:' .. mailbox), '#' .. number)
  end
  if mailbox ~= '' then
    local history = key('outcomes:' .. mailbox)
    if redis.call('LPUSH', history, job) > HISTORY then
      redis.call('LTRIM', history, 0, HISTORY - 1)
    end
    redis.call('EXPIRE', history, retention)
  end
  redis.call('XADD', key('outcomes'), 'MAXLEN', '~', STREAM, '*', 'job', job, 'status', status)
  local minute = key('counters:' .. math.floor(now / 60000000))
  if redis.call('HINCRBY', minute, status, 1) == 1 then
    redis.call('EXPIRE', minute, COUNTED_S)
  end
  if redis.call('HGET', outcome, 'lane') == 'live' then
    finished[#finished + 1] = job
  end
end

local function leave_inbox(job)
  redis.call('HDEL', key('inbox'), job)
  redis.call('ZREM', key('inbox:live'), job)
  redis.call('ZREM', key('inbox:bulk'), job)
end

-- Makes a mailbox due at `at` (microseconds), or when it may be tried again, if that is later.
local function make_due(mailbox, at)
  local box = key('mailbox:' .. mailbox)
  local rest_until = tonumber(redis.call('HGET', box, '@rest') or 0)
  at = math.max(at, rest_until)
  if redis.call('HEXISTS', box, '@live') == 1 then
    redis.call('ZREM', key('due:bulk'), mailbox)
    redis.call('ZADD', key('due:live'), 'LT', at, mailbox)
  else
    redis.call('ZADD', key('due:bulk'), 'LT', at, mailbox)
  end
  return at
end

local function end_lease(mailbox)
  redis.call('ZREM', key('inflight'), mailbox)
  redis.call('HDEL', key('leases'), mailbox)
end

-- Ends a lease that was not used, for the next release.
local function give_back(mailbox, now)
  end_lease(mailbox)
  make_due(mailbox, now)
end

-- How long until a paused account is probed. Probes are counted beyond one pause, until a delivery
-- is taken: an account that answers a ping and refuses the rest is not asked every minute.
local function probe_delay_ms(delays, first)
  local made = tonumber(redis.call('GET', key('probes')) or 0)
  return delays[math.min(first + made, #delays)]
end
