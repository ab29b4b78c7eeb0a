-- What the worker's scripts share; put in front of each.
-- KEYS[1] is the account's prefix: all its keys are in one slot, and names are built from it.
-- Numbers above 2^53 / 10^14 lose digits in Lua's text form: format them with '%.0f'.
local prefix = KEYS[1]
local VERSION = 52 -- a version: 16 digits of microseconds, then the job id's 36 characters
local HISTORY = 100 -- jobs listed for an email
local STREAM = 250000 -- outcomes listed for an account

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

-- Writes what became of a job, once and for all.
local function finish(job, mailbox, status, now, retention)
  local outcome = key('outcome:' .. job)
  redis.call('HSET', outcome, 'status', status, 'settled', text(now))
  redis.call('HDEL', outcome, 'next')
  redis.call('EXPIRE', outcome, retention)
  redis.call('HDEL', key('pending:' .. mailbox), job)
  redis.call('XADD', key('outcomes'), 'MAXLEN', '~', STREAM, '*', 'job', job, 'status', status)
  redis.call('HINCRBY', key('counters'), status, 1)
end

-- Lists a job under its email, newest first.
local function list_under(mailbox, job, retention)
  local history = key('outcomes:' .. mailbox)
  redis.call('LPUSH', history, job)
  redis.call('LTRIM', history, 0, HISTORY - 1)
  redis.call('EXPIRE', history, retention)
end

-- Makes a mailbox due at `at` (microseconds), or when it may be tried again, if that is later.
local function make_due(mailbox, at)
  local box = key('mailbox:' .. mailbox)
  local rest_until = tonumber(redis.call('HGET', box, '@rest') or 0)
  at = math.max(at, rest_until)
  if redis.call('HGET', box, '@lane') == 'live' then
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
