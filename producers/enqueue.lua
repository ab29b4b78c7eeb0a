-- enqueue: a job comes into the inbox, unless its idempotency key is known.
-- KEYS: prefix of the account
-- ARGV: job id, document, key of the idempotency key ('' for none), seconds to remember it for
-- Answers the id of the job that answers for this one: its own, or the first one's.
-- Safe to run twice: a job that a worker has accepted meanwhile does not come back.
local prefix, job, document, idem = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if idem ~= '' then
  local first = redis.call('GET', idem)
  if first and first ~= job then
    return first
  end
  redis.call('SET', idem, job, 'EX', ARGV[4])
end
if redis.call('EXISTS', prefix .. 'outcome:' .. job) == 0 then
  local time = redis.call('TIME')
  redis.call('HSETNX', prefix .. 'inbox', job, document)
  redis.call('ZADD', prefix .. 'inbox:since', 'NX', time[1] * 1000 + math.floor(time[2] / 1000), job)
end
return job
