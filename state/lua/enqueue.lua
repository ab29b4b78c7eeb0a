-- enqueue: jobs come into the inbox, each unless its idempotency key or its own id is known.
-- include: common inbox
-- arg: lane, retention_s (idempotency keys are remembered for so long),
--   jobs: [{ id, idempotency (the key's hash, or absent), content (a digest of what is asked) }],
--   wake: { queue, message } for the broker, where that is this same Redis
-- ARGV[2], …: the jobs' documents
-- Answers 1 if the caller is to wake a worker, else 0: it is done, or jobs that wait in this lane did it. Then three
-- entries for each job that was known: its position, from 0; the id of the job that answers for it; and
-- 1 if the idempotency key was used for other content before, else 0.
-- Safe to run twice: the second time nothing changes, and each job is known by its own id.
local lane = key('inbox:' .. arg.lane)
local woken = redis.call('EXISTS', lane) == 1
local arrival = last_arrival(now.redis)
local known, new = {}, false

for i, job in ipairs(arg.jobs) do
  local stands, conflict
  if job.idempotency then
    local idem = key('idem:' .. job.idempotency)
    local first = redis.call('GET', idem)
    if first and string.sub(first, 1, 36) ~= job.id then
      stands = string.sub(first, 1, 36)
      conflict = #first > 36 and string.sub(first, 38) ~= job.content
    else
      redis.call('SET', idem, job.id .. ' ' .. job.content, 'EX', arg.retention_s)
    end
  end
  -- A job that was accepted meanwhile does not come back.
  if not stands and (redis.call('EXISTS', key('job:' .. job.id), key('outcome:' .. job.id)) > 0
    or redis.call('HSETNX', key('inbox'), job.id, ARGV[i + 1]) == 0) then
    stands = job.id
  end
  if stands then
    known[#known + 1] = i - 1
    known[#known + 1] = stands
    known[#known + 1] = conflict and 1 or 0
  else
    arrival = math.max(now.redis, arrival + 1)
    redis.call('ZADD', lane, text(arrival), job.id)
    new = true
  end
end
if new then
  redis.call('SET', key('arrivals'), text(arrival))
end
local wake = new and not woken
if wake and arg.wake then
  -- Whatever is wrong with the queue, the jobs are taken. Perhaps nobody reads it: workers of an application's
  -- own Celery app have another one. So it does not grow for ever.
  local queued = redis.pcall('LLEN', arg.wake.queue)
  local pushed = queued
  if type(queued) ~= 'number' or queued < 1000 then
    pushed = redis.pcall('LPUSH', arg.wake.queue, arg.wake.message)
  end
  wake = type(pushed) == 'table' and pushed.err
end
return { wake and 1 or 0, unpack(known) }
