-- settle: what the answer means for the mailbox and its jobs, in one step.
-- ARGV: mailbox, token, seconds of retention,
--   milliseconds until what is left is tried again, milliseconds before which nothing is sent,
--   failures in a row, '1' to try the jobs one by one from now on,
--   number of values, then for each: key, version, and '' if it was not taken, else the digest of
--     what was seen ('-' if it was not seen): nothing older follows it,
--   number of jobs, then for each: job id, status, number of fields, then field, value of each
-- Answers 1, or 0 when the lease is not valid any more: then nothing was changed.
local mailbox, token, retention = ARGV[1], ARGV[2], ARGV[3]
local retry_us, rest_us = ARGV[4] * 1000, ARGV[5] * 1000
local now = now_us()
if redis.call('HGET', key('leases'), mailbox) ~= token .. '!' then
  return 0
end
end_lease(mailbox)
local box, pending = key('mailbox:' .. mailbox), key('pending:' .. mailbox)

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
    finish(job, mailbox, status, now, retention)
  end
end

for _, value in ipairs(sent) do
  if value.digest ~= '' then
    redis.call('HSET', key('delivered:' .. mailbox), value.key, value.version .. value.digest)
    redis.call('EXPIRE', key('delivered:' .. mailbox), retention)
  end
  if ended[job_of(value.version)] then
    local held = redis.call('HGET', box, value.key)
    if held and string.sub(held, 1, VERSION) == value.version then
      redis.call('HDEL', box, value.key)
    end
  end
end

local left = false
for _, field in ipairs(redis.call('HKEYS', box)) do
  left = left or string.sub(field, 1, 1) ~= '@'
end
if not left then
  redis.call('DEL', box, pending)
  if rest_us > 0 then
    -- The lost request of a job at its end must not act after the next job's.
    redis.call('HSET', box, '@rest', text(now + rest_us))
    redis.call('PEXPIRE', box, ARGV[5])
  end
  return 1
end
redis.call('HSET', box, '@failures', ARGV[6], '@rest', text(now + rest_us))
if ARGV[7] == '1' then
  redis.call('HSET', box, '@alone', 1)
end
-- A job that came in meanwhile has waited for nothing yet; one whose turn to be tried alone has
-- not come waits for the one that is tried.
local behind = kept and redis.call('HEXISTS', box, '@alone') == 1
for _, job in ipairs(redis.call('HKEYS', pending)) do
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
return 1
