-- relay: the one relay of an account's hooks takes or keeps its lease, notes how far it has come, and
-- reads on.
-- include: common clock hooks
-- arg: token, lease_us, begin (only make sure that there is a beginning), holds (the relay believes that
--   it has the lease), release (it gives it back),
--   done: { outcomes, events, events_n, handled, taken, taken_at } (what is absent stays as it is),
--   aside: entry's name → JSON, gone: names of entries that are no longer aside, too_old: the same of
--     those that are dropped, each with { status, ms }, batch (a word that these alone have),
--   failing: { since, error, at } or { } (the receiver takes events), told (id of a notice that was taken),
--   missed: { count (of events that were capped), n, ms (of the first one after them) },
--   tell (what was dropped is to be told now), measure (say how far behind it is),
--   caught_up (nothing is left), from: { outcomes, events } and most: read so many entries behind these
-- Answers JSON { held }; with the lease also account_us, redis_us, hooks (the hash), behind (jobs, if that
-- is asked for and known), outcomes and events: [{ id, fields }].
read_clock()
local found = redis.call('HMGET', hooks, 'owner', 'until', 'outcomes')
if not found[3] then -- hooks begin with what happens from now on
  local events_id, event = last_id('events')
  redis.call('HSET', hooks, 'outcomes', (last_id('outcomes')), 'events', events_id, 'events_n',
    event[2] == nil and '0' or event[4], 'handled', text(settled_jobs() or 0), 'caught_up', text(now.account))
end
if arg.begin then
  return cjson.encode({ held = false })
end
local own = found[1] == arg.token
if not own and (arg.holds or found[1] and tonumber(found[2]) > now.account) then
  return cjson.encode({ held = false })
end

local set, gone = { 'owner', arg.token, 'until', text(now.account + arg.lease_us) }, {}
local function put(name, content)
  set[#set + 1] = name
  set[#set + 1] = content
end
for name, content in pairs(arg.done or {}) do
  put(name, content)
end
if arg.failing then
  for name, field in pairs({ since = 'failing_since', error = 'error', at = 'error_at' }) do
    if arg.failing[name] then
      put(field, arg.failing[name])
    else
      gone[#gone + 1] = field
    end
  end
end
if arg.caught_up then
  put('caught_up', text(now.account))
end
local notice = arg.told and redis.call('HGET', hooks, 'notice')
if notice and cjson.decode(notice).id == arg.told then
  gone[#gone + 1] = 'notice'
end
if arg.release then
  gone[#gone + 1], gone[#gone + 2] = 'owner', 'until'
end
redis.call('HSET', hooks, unpack(set))
if #gone > 0 then
  redis.call('HDEL', hooks, unpack(gone))
end
for name, content in pairs(arg.aside or {}) do
  redis.call('HSET', aside, name, content)
end
for _, name in ipairs(arg.gone or {}) do
  redis.call('HDEL', aside, name)
end
local counted = arg.batch and redis.call('HGET', hooks, 'batch') == arg.batch
for name, what in pairs(arg.too_old or {}) do
  redis.call('HDEL', aside, name)
  if not counted then
    note_dropped({ [what.status] = 1 }, what.ms, what.ms)
  end
end
if arg.batch then
  redis.call('HSET', hooks, 'batch', arg.batch)
end
if arg.missed and arg.missed.n > (tonumber(redis.call('HGET', hooks, 'missed')) or 0) then
  note_dropped({ event = arg.missed.count }, arg.missed.ms, arg.missed.ms)
  redis.call('HSET', hooks, 'missed', text(arg.missed.n))
end

local answer = { held = true }
local total = arg.measure and settled_jobs()
if total then
  local handled, cursor = unpack(redis.call('HMGET', hooks, 'handled', 'outcomes'))
  local first = redis.call('XRANGE', key('outcomes'), '-', '+', 'COUNT', 1)[1]
  local lost = total - handled - redis.call('XLEN', key('outcomes'))
  if total < tonumber(handled) then -- the counts began anew
    redis.call('HSET', hooks, 'handled', text(total))
    handled = total
  elseif lost > 0 and milliseconds(first and first[1] or '0-0') > milliseconds(cursor) then
    -- The stream was capped before they were read.
    note_dropped({ unknown = lost }, milliseconds(cursor), milliseconds(first[1]))
    redis.call('HSET', hooks, 'handled', text(handled + lost))
    handled = handled + lost
  end
  answer.behind = total - handled
end
if arg.tell and redis.call('HEXISTS', hooks, 'notice') == 0 then
  local dropped = redis.call('HGET', hooks, 'gone')
  if dropped then
    local notice = cjson.decode(dropped)
    notice.id = text(now.redis)
    redis.call('HSET', hooks, 'notice', cjson.encode(notice))
    redis.call('HDEL', hooks, 'gone')
  end
end
answer.account_us, answer.redis_us = text(now.account), text(now.redis)
answer.hooks = {}
local fields = redis.call('HGETALL', hooks)
for i = 1, #fields, 2 do
  answer.hooks[fields[i]] = fields[i + 1]
end
for _, stream in ipairs({ 'outcomes', 'events' }) do
  answer[stream] = {}
  local after = arg.from and arg.from[stream] or answer.hooks[stream]
  if arg.most and arg.most > 0 then
    for n, entry in ipairs(redis.call('XRANGE', key(stream), '(' .. after, '+', 'COUNT', arg.most)) do
      answer[stream][n] = { id = entry[1], fields = entry[2] }
    end
  end
end
return cjson.encode(answer)
