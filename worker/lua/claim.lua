-- claim: what is to be sent for an email now. After it, the values count as in flight.
-- ARGV: mailbox, token, milliseconds of a lease, seconds of retention, requests a second allowed
-- Answers nothing when the lease is not valid, nothing is left to send, or the account was paused or
-- held, or its circuit opened, since the slot was taken; milliseconds to wait when claims crowd, as
-- they do after a machine was stalled: as many as are allowed in the last second, or one right
-- before; else
-- { now in microseconds, email, failures so far,
--   { key, version and payload, ... }, { job id, { field, value, ... of its outcome }, ... },
--   ids of the jobs that turned out to be superseded }
local mailbox, token, retention = ARGV[1], ARGV[2], ARGV[4]
local now = now_us()
if redis.call('HGET', key('leases'), mailbox) ~= token then
  return nil
end

local hold = tonumber(redis.call('HGET', key('throttle'), 'hold') or 0)
local circuit = redis.call('HMGET', key('circuit'), 'opened', 'next')
local open = circuit[1] and tonumber(circuit[2]) > now -- a probe is released after that
if open or hold > now or redis.call('EXISTS', key('pause')) == 1 then
  give_back(mailbox, now)
  return nil
end
local in_a_second = math.floor(tonumber(ARGV[5]))
if in_a_second > 0 then
  local first = tonumber(redis.call('LINDEX', key('sent'), in_a_second - 1) or 0)
  local last = tonumber(redis.call('LINDEX', key('sent'), 0) or 0)
  local from = math.max(first + in_a_second * 1000000 / ARGV[5], last + 800000 / ARGV[5])
  if from > now then
    return math.ceil((from - now) / 1000)
  end
end

local jobs = redis.call('HGETALL', key('pending:' .. mailbox))
local alone = redis.call('HGET', key('mailbox:' .. mailbox), '@alone')
local chosen = nil -- while the jobs of a refused request are tried one by one: the oldest
local claimed = {}
for i = 1, #jobs, 2 do
  if tonumber(jobs[i + 1]) <= 0 then
    -- Superseded while a request was in flight that was never judged.
    finish(jobs[i], mailbox, 'superseded', now, retention)
  else
    local occurred = redis.call('HGET', key('outcome:' .. jobs[i]), 'occurred') .. jobs[i]
    if not alone then
      claimed[jobs[i]] = true
    elseif not chosen or occurred < chosen then
      chosen = occurred
    end
  end
end
if chosen then
  claimed[job_of(chosen)] = true
end

local box = redis.call('HGETALL', key('mailbox:' .. mailbox))
local values, answered = {}, {}
local email, failures = '', '0'
for i = 1, #box, 2 do
  local field, value = box[i], box[i + 1]
  if field == '@email' then
    email = value
  elseif field == '@failures' then
    failures = value
  elseif string.sub(field, 1, 1) ~= '@' and claimed[job_of(value)] then
    values[#values + 1] = field
    values[#values + 1] = value
  end
end
for job in pairs(claimed) do
  answered[#answered + 1] = job
  answered[#answered + 1] = redis.call('HGETALL', key('outcome:' .. job))
end
if #values == 0 then
  end_lease(mailbox)
  return nil
end
if in_a_second > 0 then
  redis.call('LPUSH', key('sent'), text(now))
  redis.call('LTRIM', key('sent'), 0, in_a_second - 1)
  redis.call('PEXPIRE', key('sent'), 2000)
end
redis.call('HSET', key('leases'), mailbox, token .. '!')
redis.call('ZADD', key('inflight'), now + ARGV[3] * 1000, mailbox)
return { text(now), email, failures, values, answered, finished }
