-- enqueue: jobs come into the inbox, each unless its idempotency key or its own id is known.
-- KEYS: prefix of the account
-- ARGV: lane, seconds to remember idempotency keys for, then for each job: its id, its document,
--       the key of its idempotency key ('' for none)
-- Answers 1 if a worker is to be told, else 0: jobs that wait in this lane were told of before, or the
-- workers' tickers find them. Then two entries for each job that was known: its position, from 0, and
-- the id of the job that answers for it.
-- Safe to run twice: the second time, nothing changes and each job is known by its own id.
local prefix, lane, retention = KEYS[1], ARGV[1], ARGV[2]
local inbox, since = prefix .. 'inbox', prefix .. 'inbox:' .. lane
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local told = redis.call('ZCOUNT', since, '-inf', now) > 0
local known, new = {}, false

for i = 3, #ARGV, 3 do
  local job, idem = ARGV[i], ARGV[i + 2]
  local stands
  if idem ~= '' then
    local first = redis.call('GET', idem)
    if first and first ~= job then
      stands = first
    else
      redis.call('SET', idem, job, 'EX', retention)
    end
  end
  -- A job with an outcome was accepted meanwhile: it does not come back.
  if not stands and (redis.call('EXISTS', prefix .. 'outcome:' .. job) == 1
    or redis.call('HSETNX', inbox, job, ARGV[i + 1]) == 0) then
    stands = job
  end
  if stands then
    known[#known + 1] = (i - 3) / 3
    known[#known + 1] = stands
  else
    redis.call('ZADD', since, 'NX', now, job)
    new = true
  end
end
return { new and not told and 1 or 0, unpack(known) }
