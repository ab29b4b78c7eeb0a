-- settle: what the answer means for the mailbox and its jobs, in one step.
-- ARGV: mailbox, token, seconds of retention,
--   milliseconds until what is left is tried again, milliseconds before which nothing is sent,
--   failures in a row, '1' to try the jobs one by one from now on,
--   number of values, then for each: key, version, and '' if it was not taken, else the digest of
--     what was seen ('-' if it was not seen): nothing older follows it,
--   number of jobs, then for each: job id, status, number of fields, then field, value of each
-- Answers the outcomes of the live ones among the jobs, as they stand now: { job id, { field, value, … },
-- … }; or nothing when the lease is not valid any more: then nothing was changed.
local mailbox, token, retention = ARGV[1], ARGV[2], ARGV[3]
local retry_us, rest_us = ARGV[4] * 1000, ARGV[5] * 1000
local now = now_us()
if redis.call('HGET', key('leases'), mailbox) ~= token .. '!' then
  return nil
end
end_lease(mailbox)
redis.call('DEL', key('sending:' .. mailbox))
local box = key('mailbox:' .. mailbox)
local held, numbers = {}, {} -- what the mailbox held until now; each job's number in it
local fields = redis.call('HGETALL', box)
for i = 1, #fields, 2 do
  held[fields[i]] = fields[i + 1]
  if string.sub(fields[i], 1, 1) == '#' then
    numbers[job_of(fields[i + 1])] = string.sub(fields[i], 2)
  end
end

local at = 8
local function take()
  at = at + 1
  return ARGV[at - 1]
end
local sent = {}
for i = 1, take() do
  local value = { key = take() }
  value.version = take()
  value.digest = take()
  sent[i] = value
end

local judged, ended, kept = {}, {}, false
for _ = 1, take() do
  local job = take()
  local status = take()
  judged[job] = true
  for _ = 1, take() do
    local field = take()
    redis.call('HSET', key('outcome:' .. job), field, take())
  end
  if status == 'pending' then
    kept = true
  else
    ended[job] = true
    finish(job, mailbox, numbers[job], status, now, retention)
  end
end

local function live_outcomes()
  local found = {}
  for job in pairs(judged) do
    local outcome = key('outcome:' .. job)
    if redis.call('HGET', outcome, 'lane') == 'live' then
      found[#found + 1] = job
      found[#found + 1] = redis.call('HGETALL', outcome)
    end
  end
  return found
end

for _, value in ipairs(sent) do
  if value.digest ~= '' then
    redis.call('HSET', key('delivered:' .. mailbox), value.key, value.version .. value.digest)
    redis.call('EXPIRE', key('delivered:' .. mailbox), retention)
  end
  local job, content = job_of(value.version), held[value.key]
  if ended[job] and content and number_of(content) == numbers[job] then
    redis.call('HDEL', box, value.key)
    held[value.key] = nil
  end
end

local left = false
for field in pairs(held) do
  left = left or is_value(field)
end
if not left then
  redis.call('DEL', box)
  if rest_us > 0 then
    -- The lost request of a job at its end must not act after the next job's.
    redis.call('HSET', box, '@rest', text(now + rest_us))
    redis.call('PEXPIRE', box, ARGV[5])
  end
  return live_outcomes()
end
redis.call('HSET', box, '@failures', ARGV[6], '@rest', text(now + rest_us))
if ARGV[7] == '1' then
  redis.call('HSET', box, '@alone', 1)
end
-- A job that came in meanwhile has waited for nothing yet; one whose turn to be tried alone has
-- not come waits for the one that is tried.
local behind = kept and (held['@alone'] or ARGV[7] == '1')
for job in pairs(numbers) do
  if not judged[job] and not behind then
    retry_us = 0
  end
end
local due = make_due(mailbox, now + retry_us)
for job in pairs(judged) do
  if not ended[job] then
    redis.call('HSET', key('outcome:' .. job), 'next', text(due))
  end
end
return live_outcomes()
