-- stage: a job leaves the inbox for its email's mailbox, where the newest value of each key stands.
-- ARGV: job id, mailbox, email, lane, version, seconds of retention,
--   '1' if a key must keep the type that was first used for it, '1' to skip what is there already,
--   then for each attribute: key, payload, and if it may be skipped: digest of type and value
-- Answers { what came of it, live jobs that it brought to an end, its own perhaps, and which keys had
-- another type before }. What came of it: 'staged'; 'superseded' (newer values stand there or were
-- delivered); 'unchanged' (all were delivered, and are to be skipped then); 'known' (it was staged
-- before); or, with nothing changed, 'future' (occurred too far ahead of Redis's clock), 'mistyped'.
local job, mailbox, email, lane, version = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local retention, strict, skip = ARGV[6], ARGV[7] == '1', ARGV[8] == '1'
local FUTURE_US = 5 * 60 * 1000000
local FIRST, STEP = 9, skip and 3 or 2
local now = now_us()

if redis.call('EXISTS', key('outcome:' .. job)) == 1 then
  leave_inbox(job)
  return { 'known', finished, '' }
end
if tonumber(string.sub(version, 1, 16)) > now + FUTURE_US then
  return { 'future', finished, '' }
end

local keys = {}
for i = FIRST, #ARGV, STEP do
  keys[#keys + 1] = ARGV[i]
end
local box = key('mailbox:' .. mailbox)
local types = redis.call('HMGET', key('types'), unpack(keys))
local held = redis.call('HMGET', box, unpack(keys))
local delivered = redis.call('HMGET', key('delivered:' .. mailbox), unpack(keys))

local mistyped, first_used = {}, {}
for n, name in ipairs(keys) do
  local type = string.match(ARGV[FIRST + STEP * (n - 1) + 1], '%a+')
  if not types[n] then
    first_used[#first_used + 1] = name
    first_used[#first_used + 1] = type
  elseif types[n] ~= type then
    mistyped[#mistyped + 1] = name .. ': ' .. type .. ', but ' .. types[n] .. ' was used first'
  end
end
mistyped = table.concat(mistyped, '; ')
if strict and mistyped ~= '' then
  return { 'mistyped', finished, mistyped }
end
if #first_used > 0 then
  redis.call('HSET', key('types'), unpack(first_used))
end

leave_inbox(job)
redis.call('HSET', key('outcome:' .. job), 'email', email, 'mailbox', mailbox, 'lane', lane,
  'keys', table.concat(keys, ','), 'occurred', string.sub(version, 1, 16), 'accepted', text(now))
if mistyped ~= '' then
  redis.call('HSET', key('outcome:' .. job), 'warning', mistyped)
end

local lease = redis.call('HGET', key('leases'), mailbox)
local in_flight = lease and string.sub(lease, -1) == '!'
local number = redis.call('HGET', box, '@next') or 1
local own, unchanged = {}, 0
for n, name in ipairs(keys) do
  local payload, digest = ARGV[FIRST + STEP * (n - 1) + 1], ARGV[FIRST + STEP * (n - 1) + 2]
  local older = held[n] and number_of(held[n])
  local entry = older and redis.call('HGET', box, '#' .. older)
  local seen = delivered[n]
  if (not older or version_of(entry) < version) and (not seen or version_of(seen) <= version) then
    if skip and not older and seen and after_version(seen) == digest then
      -- It is the newest all the same: what comes later and is older must not replace it.
      redis.call('HSET', key('delivered:' .. mailbox), name, version .. digest)
      unchanged = unchanged + 1
    else
      own[#own + 1] = name
      own[#own + 1] = number .. payload
      if older then
        local left = after_version(entry) - 1
        redis.call('HSET', box, '#' .. older, version_of(entry) .. text(left))
        -- A job whose values are in flight is judged by their answer.
        if left == 0 and not in_flight then
          finish(job_of(entry), mailbox, older, 'superseded', now, retention)
        end
      end
    end
  end
end
if #own == 0 then
  local status = unchanged == #keys and 'unchanged' or 'superseded'
  finish(job, mailbox, nil, status, now, retention)
  return { status, finished, mistyped }
end

redis.call('HSET', box, '#' .. number, version .. text(#own / 2), '@next', number + 1, unpack(own))
redis.call('PERSIST', box) -- what is left to rest after its last job ends by itself
if lane == 'live' then
  redis.call('HSET', box, '@live', 1)
end
if not lease then
  make_due(mailbox, now)
end
return { 'staged', finished, mistyped }
