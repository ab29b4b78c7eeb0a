-- Forgetting: what is left of a job says when and how it ended, and nothing of whose it was.
local NOTHING = { email = '', keys = '', message = '', warning = '', customers = '', document = '' }

-- Answers whether the outcome of a settled job had anything to forget.
local function forget_settled(job, kept)
  local outcome, found = cjson.decode(kept), false
  for name in pairs(NOTHING) do
    local short = SHORT[name]
    found = found or outcome[short] ~= nil
    outcome[short] = nil
  end
  if found then
    redis.call('SET', key('outcome:' .. job), cjson.encode(outcome), 'KEEPTTL')
  end
  return found
end

-- Forgets a job wherever it stands; one that waits ends as canceled. Answers 'canceled', 'changed' or nil.
-- `lane` is where it was in the inbox.
local function forget_job(job, lane)
  local kept = redis.pcall('GET', key('outcome:' .. job))
  if kept and (type(kept) == 'table' or not pcall(cjson.decode, kept)) then
    redis.call('DEL', key('outcome:' .. job)) -- damaged: nobody knows what is in it
    return 'changed'
  elseif kept then
    return forget_settled(job, kept) and 'changed' or nil
  end
  if redis.call('TYPE', key('job:' .. job)).ok ~= 'hash' then
    redis.call('DEL', key('job:' .. job))
  end
  local fields = { reason = 'forgotten' }
  for name, content in pairs(NOTHING) do
    fields[name] = content
  end
  settle_job(job, nil, 'canceled', fields, lane)
  return 'canceled'
end
