-- stage: a job leaves the inbox for its email's mailbox, where the newest value of each key stands.
-- include: common clock inbox mailbox counts outcome
-- arg: job, taken (its entry in `inbox:taken`), email, mailbox, lane, arrived and occurred (in microseconds;
--   the latter if the job says when its values became true), worker_us (the worker's own clock),
--   attributes: [{ key, type, payload, digest }], retention_s, keep_s, strict (a key must keep the type
--   that was first used for it), only_changed (skip what ChartMogul's answer showed the last time),
--   traceparent (kept while the job is pending; '' for none)
-- Answers as JSON { result, version, superseded: ids of the jobs that it settled, mistyped: which keys
--   had another type before }. The result is 'staged'; 'superseded' (newer values stand there or were
--   delivered); 'unchanged'; 'forgotten' (it says that it occurred before its email was forgotten, and is
--   canceled); 'known' (it was staged, or canceled, before); or, with nothing changed, 'future' (it says
--   that it occurred more than five minutes ahead of all clocks) or 'mistyped'.
local FUTURE_US = 5 * 60 * 1000000
local box_key, email_key = key('mailbox:' .. arg.mailbox), key('email:' .. arg.mailbox)
local superseded = {}

local function answer(result, mistyped, version)
  return cjson.encode({ result = result, superseded = superseded, mistyped = mistyped or '', version = version or '' })
end

local keys = {}
for n, attribute in ipairs(arg.attributes) do
  keys[n] = attribute.key
end
local delivered = redis.call('HMGET', email_key, unpack(keys))
local forgotten = arg.occurred and tonumber(redis.call('GET', key('forgotten:' .. arg.mailbox)) or nil)
keys[#keys + 1], keys[#keys + 2], keys[#keys + 3], keys[#keys + 4] = '@next', '@waits', '@live', '@rest'
local held = redis.call('HMGET', box_key, unpack(keys))
local number, waits, is_live, rests = unpack(held, #arg.attributes + 1)
for n = #keys, #arg.attributes + 1, -1 do
  keys[n] = nil
end

-- The job that holds a key now, if its entry is there.
local function holder(n)
  local number = held[n] and string.match(held[n], '^%d+')
  local content = number and redis.call('HGET', box_key, '#' .. number)
  if content then
    local job = read_job(content)
    job.number = number
    return job
  end
end
local holders = {}
for n in ipairs(keys) do
  holders[n] = holder(n)
end

-- When a job arrived whose version lies ahead, by Redis's clock of then; nil where that is not known.
local function arrived_us(job)
  local pending = redis.call('HGET', key('job:' .. job), 'arrived')
  local settled = not pending and redis.call('GET', key('outcome:' .. job))
  return tonumber(pending or settled and cjson.decode(settled).r or nil)
end

-- A job that does not say when it occurred is as new as its arrival. A version that lies ahead of
-- every arrival comes from a clock that was wrong: what arrived after that job is newer.
local function version_us()
  if arg.occurred then
    return arg.occurred
  end
  local newest = ''
  for n in ipairs(keys) do
    for _, found in ipairs({ holders[n] and holders[n].version or '', delivered[n] or '' }) do
      newest = found > newest and found or newest
    end
  end
  local newest_us = tonumber(string.sub(newest, 1, 16)) or 0
  local latest = newest_us > now.redis and math.max(now.redis, last_arrival(now.redis))
  if latest and newest_us > latest then
    local arrived = arrived_us(job_of(newest))
    if not arrived or arrived > latest or arg.arrived > arrived then
      return newest_us + 1
    end
  end
  return arg.arrived
end

local function first_types()
  local types = redis.call('HMGET', key('types'), unpack(keys))
  local mistyped, first = {}, {}
  for n, attribute in ipairs(arg.attributes) do
    if not types[n] then
      first[#first + 1] = attribute.key
      first[#first + 1] = attribute.type
    elseif types[n] ~= attribute.type then
      mistyped[#mistyped + 1] = attribute.key .. ': ' .. attribute.type .. ', but ' .. types[n] .. ' was used first'
    end
  end
  return table.concat(mistyped, '; '), first
end

if redis.call('EXISTS', key('job:' .. arg.job), key('outcome:' .. arg.job)) > 0 then
  leave_inbox(arg.job, arg.taken)
  return answer('known')
end
if forgotten and arg.occurred <= forgotten then
  settle_job(arg.job, nil, 'canceled', { lane = arg.lane, reason = 'forgotten' })
  write_counts()
  leave_inbox(arg.job, arg.taken)
  return answer('forgotten')
end
if arg.occurred then
  local latest = math.max(now.redis, arg.worker_us, last_arrival(now.redis))
  if arg.occurred > latest + FUTURE_US and redis.call('SREM', key('replays'), arg.job) == 0 then
    return answer('future')
  end
end
local mistyped, first = first_types()
if arg.strict and mistyped ~= '' then
  return answer('mistyped', mistyped)
end

local at = version_us()
local version = string.format('%016.0f', at) .. arg.job
local leased = number and redis.call('ZSCORE', key('leases'), arg.mailbox)
local is_new = not number
number = number or '1'
local set, own, unchanged = {}, 0, 0
for n, attribute in ipairs(arg.attributes) do
  local older, seen = holders[n], delivered[n]
  if (not older or older.version < version) and (not seen or string.sub(seen, 1, VERSION) <= version) then
    if arg.only_changed and not older and seen and string.sub(seen, VERSION + 1) == attribute.digest then
      -- It is the newest all the same: what comes later and is older must not replace it.
      note_email(attribute.key, version .. attribute.digest)
      unchanged = unchanged + 1
    else
      own = own + 1
      set[#set + 1] = attribute.key
      set[#set + 1] = number .. attribute.payload
      if older then
        local content = read_job(redis.call('HGET', box_key, '#' .. older.number))
        content.left = content.left - 1
        redis.call('HSET', box_key, '#' .. older.number, job_entry(content))
        -- A job whose values are in flight is judged by their answer.
        if content.left <= 0 and not leased then
          redis.call('HDEL', box_key, '#' .. older.number)
          settle_job(older.id, arg.mailbox, content.in_part and 'delivered' or 'superseded', {})
          superseded[#superseded + 1] = older.id
        end
      end
    end
  end
end

local fields = { email = arg.email, lane = arg.lane, keys = table.concat(keys, ','), warning = mistyped,
  occurred = string.format('%.0f', at), accepted = text(now.redis),
  arrived = at ~= arg.arrived and text(arg.arrived) or '', traceparent = arg.traceparent }
if own == 0 then
  local result = unchanged == #keys and 'unchanged' or 'superseded'
  settle_job(arg.job, arg.mailbox, result, fields)
  write_email(arg.mailbox)
  write_counts()
  leave_inbox(arg.job, arg.taken)
  return answer(result, mistyped, version)
end
local flat = {}
for name, content in pairs(fields) do
  if content ~= '' then
    flat[#flat + 1] = name
    flat[#flat + 1] = content
  end
end
redis.call('HSET', key('job:' .. arg.job), unpack(flat))
set[#set + 1] = '#' .. number
set[#set + 1] = version .. own
set[#set + 1] = '@next'
set[#set + 1] = text(number + 1)
if arg.lane == 'live' and not is_live then
  set[#set + 1] = '@live'
  set[#set + 1] = '1'
end
redis.call('HSET', box_key, unpack(set))
if #first > 0 then
  redis.call('HSET', key('types'), unpack(first))
end
leave_inbox(arg.job, arg.taken)

write_email(arg.mailbox)
write_counts()
if is_new and not rests then
  redis.call('ZADD', key('due:' .. arg.lane), text(now.redis), arg.mailbox)
elseif not leased and not (waits and redis.call('ZSCORE', key('later'), arg.mailbox)) then
  read_clock()
  if is_new then -- what rested would have ended by itself
    redis.call('PERSIST', box_key)
  elseif arg.lane == 'live' and not is_live then
    redis.call('ZREM', key('due:bulk'), arg.mailbox)
  end
  make_due(arg.mailbox, 0, 'later')
end
return answer('staged', mistyped, version)
