-- stage: a job leaves the inbox for its email's mailbox, where the newest value of each key stands.
-- ARGV: job id, mailbox, email, lane, version, seconds of retention, names of its keys,
--       then for each attribute: key, payload
-- Answers 'staged', 'superseded' (newer values stand there or were delivered), 'known' (it was
-- staged before), or 'future' (occurred too far ahead of Redis's clock; nothing was changed); then
-- the ids of the jobs that are superseded by it, its own perhaps.
local job, mailbox, email, lane, version = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local retention = ARGV[6]
local FUTURE_US = 5 * 60 * 1000000
local now = now_us()

if redis.call('EXISTS', key('outcome:' .. job)) == 1 then
  redis.call('HDEL', key('inbox'), job)
  redis.call('ZREM', key('inbox:since'), job)
  return { 'known', finished }
end
if tonumber(string.sub(version, 1, 16)) > now + FUTURE_US then
  return { 'future', finished }
end

redis.call('HSET', key('outcome:' .. job), 'status', 'pending', 'email', email, 'mailbox', mailbox,
  'lane', lane, 'keys', ARGV[7], 'occurred', string.sub(version, 1, 16), 'accepted', text(now))
list_under(mailbox, job, retention)

local box, pending = key('mailbox:' .. mailbox), key('pending:' .. mailbox)
local lease = redis.call('HGET', key('leases'), mailbox)
local in_flight = lease and string.sub(lease, -1) == '!'
local owned = 0
for i = 8, #ARGV, 2 do
  local held = redis.call('HGET', box, ARGV[i])
  local seen = redis.call('HGET', key('delivered:' .. mailbox), ARGV[i])
  if (not held or string.sub(held, 1, VERSION) < version)
    and (not seen or string.sub(seen, 1, VERSION) <= version) then
    redis.call('HSET', box, ARGV[i], version .. ARGV[i + 1])
    owned = owned + 1
    if held then
      local older = job_of(held)
      -- A job whose values are in flight is judged by their answer.
      if redis.call('HINCRBY', pending, older, -1) == 0 and not in_flight then
        finish(older, mailbox, 'superseded', now, retention)
      end
    end
  end
end
redis.call('HDEL', key('inbox'), job)
redis.call('ZREM', key('inbox:since'), job)
if owned == 0 then
  finish(job, mailbox, 'superseded', now, retention)
  return { 'superseded', finished }
end

redis.call('HSET', pending, job, owned)
redis.call('HSET', box, '@email', email)
redis.call('PERSIST', box) -- what is left to rest after its last job ends by itself
if lane == 'live' or redis.call('HEXISTS', box, '@lane') == 0 then
  redis.call('HSET', box, '@lane', lane)
end
if not lease then
  make_due(mailbox, now)
end
return { 'staged', finished }
