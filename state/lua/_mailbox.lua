-- Mailboxes: one for each email, with the newest value of each attribute key that is not delivered.
-- Fields of the hash `mailbox:<id>`:
--   <key>      number of its job in this mailbox, then the value as JSON: 7["String","pro"]
--   #<number>  the job's version, how many values are still its own, `+` if others of it were delivered,
--              and `!` if it failed alone
--   @next      number of the next job         @live      set when a live job came in
--   @lease     token of the delivery; behind `forgotten ` where the email was forgotten since
--   @sending   key=version, … of the request in flight
--   @failures  failures of the server in a row
--   @rest      account time before which nothing is sent
--   @batch     how many jobs go into one request at most, while a culprit is searched for
--   @waits     set while a customer is waited for: a new job joins, and waits as well
-- A mailbox stands in one place: `leases` (a worker delivers it), `later`, or one of the lanes.
-- A version is 16 digits of microseconds and the job's id: compared as text, the later is newer.
local VERSION = 52
local FORGOTTEN = 'forgotten ' -- before the token of a lease

local function job_of(version)
  return string.sub(version, 17, VERSION)
end

local function read_job(content)
  return {
    version = string.sub(content, 1, VERSION),
    id = job_of(content),
    left = tonumber(string.match(content, '^%d+', VERSION + 1)) or 0,
    in_part = string.find(content, '+', VERSION + 1, true) ~= nil,
    failed = string.sub(content, -1) == '!',
    keys = {},
  }
end

local function job_entry(job)
  return job.version .. text(job.left) .. (job.in_part and '+' or '') .. (job.failed and '!' or '')
end

-- All that is in a mailbox. A value whose job is missing belongs to nobody: its key is in `damaged`.
local function read_mailbox(mailbox)
  local box = { values = {}, jobs = {}, state = {}, damaged = {} }
  local fields, names = redis.call('HGETALL', key('mailbox:' .. mailbox)), {}
  for i = 1, #fields, 2 do
    local name, content = fields[i], fields[i + 1]
    local mark = string.sub(name, 1, 1)
    if mark == '@' then
      box.state[string.sub(name, 2)] = content
    elseif mark == '#' then
      box.jobs[string.sub(name, 2)] = read_job(content)
    else
      local number = string.match(content, '^%d+') or ''
      box.values[name] = { number = number, payload = string.sub(content, #number + 1) }
      names[#names + 1] = name
    end
  end
  for _, name in ipairs(names) do
    local job = box.jobs[box.values[name].number]
    if job then
      job.keys[#job.keys + 1] = name
    else
      box.damaged[#box.damaged + 1] = name
      box.values[name] = nil
    end
  end
  return box
end

-- Puts a mailbox where it belongs, `delay_us` from now: into its lane, or into `later`. It must stand
-- nowhere, or in the place `from`. In its lane it is the last, or, where it was not at fault that nothing
-- came of its delivery, the `first`.
local function make_due(mailbox, delay_us, from, first)
  local state = redis.call('HMGET', key('mailbox:' .. mailbox), '@live', '@failures', '@rest')
  delay_us = math.max(delay_us, (tonumber(state[3]) or 0) - now.account)
  if from then
    redis.call('ZREM', key(from), mailbox)
  end
  if delay_us > 0 then
    redis.call('ZADD', key('later'), text(now.later + delay_us), mailbox)
  else
    local lane = (tonumber(state[2]) or 0) > 0 and 'failing' or state[1] and 'live' or 'bulk'
    local head = first and redis.call('ZRANGE', key('due:' .. lane), 0, 0, 'WITHSCORES')[2]
    local since = head and math.min(now.redis, head - 1) or now.redis
    redis.call('ZADD', key('due:' .. lane), 'NX', text(since), mailbox) -- else it keeps its place
  end
  return math.max(0, delay_us)
end

-- Takes a mailbox that is not leased, and of which nothing is left to send, out of its place.
local function leave_place(mailbox)
  for _, place in ipairs({ 'due:live', 'due:bulk', 'due:failing', 'later' }) do
    redis.call('ZREM', key(place), mailbox)
  end
end

-- Removes an empty mailbox. The lost request of a settled job must not act after the next job's.
local function remove_mailbox(mailbox, rest_us)
  local box_key = key('mailbox:' .. mailbox)
  redis.call('DEL', box_key)
  if rest_us > 0 then
    redis.call('HSET', box_key, '@rest', text(now.account + rest_us))
    redis.call('PEXPIRE', box_key, math.ceil(rest_us / 1000))
  end
end

-- `failing`: whether the server failed on it before.
local function end_lease(mailbox, failing)
  redis.call('ZREM', key('leases'), mailbox)
  if failing then
    redis.call('ZREM', key('leases:failing'), mailbox)
  end
end
