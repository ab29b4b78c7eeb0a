-- relay_drop: the relay passes over the oldest settled jobs that it has not handed over, and counts them.
-- include: common hooks
-- arg: token, from (where the relay stands in `outcomes`), most (how many to look at), before_ms (only
--   those older than this, by Redis's clock; absent for all), statuses (of jobs that hooks tell of),
--   done: ids of entries that were taken, dropped or set aside though the relay has not passed them
-- Answers { how many were passed, the entry up to which }; { 0, from } where the relay stands elsewhere.
local found = redis.call('HMGET', hooks, 'owner', 'outcomes', 'handled')
if found[1] ~= arg.token or found[2] ~= arg.from then
  return { 0, arg.from }
end
local chosen = {}
for _, status in ipairs(arg.statuses) do
  chosen[status] = true
end
local done = {}
for _, id in ipairs(arg.done) do
  done[id] = true
end
local counts, passed, last, from_ms, to_ms = {}, 0, arg.from, nil, nil
for _, entry in ipairs(redis.call('XRANGE', key('outcomes'), '(' .. arg.from, '+', 'COUNT', arg.most)) do
  local ms, status = milliseconds(entry[1]), 'unknown'
  if arg.before_ms and ms >= arg.before_ms then
    break
  end
  for i = 1, #entry[2], 2 do
    status = entry[2][i] == 'status' and entry[2][i + 1] or status
  end
  if chosen[status] and not done[entry[1]] and redis.call('HEXISTS', aside, 'o' .. entry[1]) == 0 then
    counts[status] = (counts[status] or 0) + 1
    from_ms, to_ms = from_ms or ms, ms
  end
  passed, last = passed + 1, entry[1]
end
if passed > 0 then
  note_dropped(counts, from_ms, to_ms)
  redis.call('HSET', hooks, 'outcomes', last, 'handled', text((tonumber(found[3]) or 0) + passed))
end
return { passed, last }
