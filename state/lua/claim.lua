-- claim: what is to be sent for an email now. After it, the values count as in flight, and the request
-- as sent at the time it is told to leave.
-- ARGV: mailbox, token, milliseconds of a lease, seconds of retention, requests a second allowed,
--   milliseconds before its slot from which a lease may be claimed
-- Answers milliseconds to wait when that is too early; nothing when the lease is not valid, nothing is
-- left to send, or the account was paused or held, or its circuit opened, since the slot was given;
-- else { now in microseconds, failures so far,
--   { key, version and payload, ... }, { job id, { field, value, ... of its outcome }, ... },
--   live jobs that turned out to be superseded,
--   { the time to leave in microseconds, in how many milliseconds that is } }
local mailbox, token, retention = ARGV[1], ARGV[2], ARGV[4]
local now = now_us()
if redis.call('HGET', key('leases'), mailbox) ~= token then
  return nil
end
local slot = tonumber(string.match(token, '@(%d+)$')) or 0
local hold = tonumber(redis.call('HGET', key('throttle'), 'hold') or 0)
local early_us = slot - ARGV[6] * 1000 - now
if slot >= hold then -- it was given for the time after the hold
  early_us = math.max(early_us, hold - now)
end
if early_us > 0 then
  return math.ceil(early_us / 1000)
end

local circuit = redis.call('HMGET', key('circuit'), 'opened', 'next')
local open = circuit[1] and tonumber(circuit[2]) > now -- a probe is released after that
if open or hold > now or redis.call('EXISTS', key('pause')) == 1 then
  give_back(mailbox, now)
  return nil
end
local box = redis.call('HGETALL', key('mailbox:' .. mailbox))
local alone, failures = false, '0'
local versions = {} -- by number
for i = 1, #box, 2 do
  local field, content = box[i], box[i + 1]
  if field == '@failures' then
    failures = content
  elseif field == '@alone' then
    alone = true
  elseif string.sub(field, 1, 1) == '#' then
    local number = string.sub(field, 2)
    if tonumber(after_version(content)) > 0 then
      versions[number] = version_of(content)
    else
      -- Superseded while a request was in flight that was never judged.
      finish(job_of(content), mailbox, number, 'superseded', now, retention)
    end
  end
end
if alone then -- the jobs of a refused request are tried one by one: the oldest
  local oldest = nil
  for number, version in pairs(versions) do
    if not oldest or version < versions[oldest] then
      oldest = number
    end
  end
  versions = oldest and { [oldest] = versions[oldest] } or {}
end

local values, jobs = {}, {}
for i = 1, #box, 2 do
  local version = is_value(box[i]) and versions[number_of(box[i + 1])]
  if version then
    values[#values + 1] = box[i]
    values[#values + 1] = version .. string.gsub(box[i + 1], '^%d+', '', 1)
  end
end
for _, version in pairs(versions) do
  jobs[#jobs + 1] = job_of(version)
  jobs[#jobs + 1] = redis.call('HGETALL', key('outcome:' .. job_of(version)))
end
if #values == 0 then
  end_lease(mailbox)
  return nil
end
-- What a request carried that was never judged may have been taken: nothing older may follow it.
local sending = key('sending:' .. mailbox)
local unjudged = redis.call('HGETALL', sending)
for i = 1, #unjudged, 2 do
  redis.call('HSET', key('delivered:' .. mailbox), unjudged[i], unjudged[i + 1] .. '-')
  redis.call('EXPIRE', key('delivered:' .. mailbox), retention)
end
redis.call('DEL', sending)
for i = 1, #values, 2 do
  redis.call('HSET', sending, values[i], version_of(values[i + 1]))
end
redis.call('HSET', key('leases'), mailbox, token .. '!')
redis.call('ZADD', key('inflight'), now + ARGV[3] * 1000, mailbox)
return { text(now), failures, values, jobs, finished, leave_at(tonumber(ARGV[5]), now) }
