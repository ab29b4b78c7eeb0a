-- settle: all that follows from an answer, in one step. What it says of the account is noted; what
-- was sent leaves the mailbox, unless something newer came; jobs come to their outcomes; the lease
-- ends; the rest is due again; and the stint gets its next delivery.
-- include: common clock mailbox counts outcome pace held observe next
-- arg: answer (see _observe.lua), next (see _next.lua; absent when the stint ends),
--   mailbox, token, retention_s, keep_s, retry_us (until what is left is tried again), rest_us (until
--   anything is sent), failures (in a row), batch (jobs in a request at most; 0 for all),
--   waits (true while a customer is waited for),
--   values: [{ key, version, took: '' if it was not taken, '-' if it may have been, else the digest of
--     what was seen }],
--   jobs: [{ id, status, fields, failed (alone) }]
-- Answers as JSON { held: whether the lease was still valid, else nothing was changed; paused;
--   settled_us; due_us, of what is left; open: ids of jobs that are only delivered in part; next }.
read_clock()
local box_key = key('mailbox:' .. arg.mailbox)
local open = {}

local function note_taken()
  for _, value in ipairs(arg.values) do
    if value.took ~= '' then
      note_email(value.key, value.version .. value.took)
    end
  end
end

local function note_pending(result)
  local flat = {}
  for name, content in pairs(result.fields) do
    flat[#flat + 1] = name
    flat[#flat + 1] = content
  end
  if #flat > 0 and redis.call('EXISTS', key('job:' .. result.id)) == 1 then -- else its record is lost
    redis.call('HSET', key('job:' .. result.id), unpack(flat))
  end
end

-- Carries out what the answer means for each job. Answers the mailbox's fields to remove and to set.
local function judge_jobs(box)
  local sent, entries, gone, set = {}, {}, {}, {}
  for _, value in ipairs(arg.values) do
    sent[value.key] = value.version
  end
  for number, job in pairs(box.jobs) do
    job.number = number
    entries[job.id] = job
  end
  for _, result in ipairs(arg.jobs) do
    local job = entries[result.id] or { keys = {} }
    local unsent = 0
    for _, name in ipairs(job.keys) do
      if sent[name] ~= job.version then
        unsent = unsent + 1
      end
    end
    local in_part = result.status == 'delivered' and unsent > 0
    if result.status == 'pending' and job.number and #job.keys == 0 then
      result.status = job.in_part and 'delivered' or 'superseded' -- newer jobs came meanwhile
      superseded[#superseded + 1] = result.id
    end
    for _, name in ipairs(job.keys) do
      if result.status ~= 'pending' and not (in_part and sent[name] ~= job.version) then
        gone[#gone + 1] = name
      end
    end
    if result.status == 'pending' or in_part then
      note_pending(result)
      job.judged, job.left, job.failed = true, in_part and unsent or job.left, result.failed
      job.in_part = job.in_part or in_part
      open[#open + 1] = in_part and result.id or nil
      if job.number then
        set[#set + 1] = '#' .. job.number
        set[#set + 1] = job_entry(job)
      end
    else
      settle_job(result.id, arg.mailbox, result.status, result.fields)
      if job.number then
        gone[#gone + 1] = '#' .. job.number
        box.jobs[job.number] = nil
      end
    end
  end
  return gone, set
end

local function settle_mailbox(box)
  end_lease(arg.mailbox, box.state.failures)
  note_taken()
  local gone, set = judge_jobs(box)
  write_email(arg.mailbox)
  if not next(box.jobs) then
    remove_mailbox(arg.mailbox, arg.rest_us)
    return nil
  end
  local delay_us = arg.retry_us
  for _, job in pairs(box.jobs) do
    if not job.judged and not arg.waits then
      delay_us = 0 -- it has not been tried yet
    end
  end
  local state = { failures = arg.failures, batch = arg.batch, waits = arg.waits and 1 or 0,
    rest = arg.rest_us > 0 and now.account + arg.rest_us or 0 }
  for name, number in pairs(state) do
    if number > 0 then
      set[#set + 1] = '@' .. name
      set[#set + 1] = text(number)
    elseif box.state[name] then
      gone[#gone + 1] = '@' .. name
    end
  end
  gone[#gone + 1], gone[#gone + 2] = '@lease', '@sending'
  in_slices('HDEL', box_key, gone)
  in_slices('HSET', box_key, set)
  local due_us = text(now.redis + make_due(arg.mailbox, delay_us, nil, arg.answer.kind == 'pace'))
  for _, result in ipairs(arg.jobs) do
    if result.status == 'pending' and redis.call('EXISTS', key('job:' .. result.id)) == 1 then
      redis.call('HSET', key('job:' .. result.id), 'next', due_us)
    end
  end
  return due_us
end

-- The email was forgotten while its request was under way: nothing of it is written. What came in
-- since has its turn when the request can no longer act.
local function end_forgotten(box)
  arg.values, arg.jobs, arg.failures, arg.batch, arg.waits = {}, {}, 0, 0, false
  box.state.failures = true -- it may have been a failing one
  settle_mailbox(box)
end

local answer = { paused = observe(arg.answer), settled_us = text(now.redis) }
local box = read_mailbox(arg.mailbox)
answer.held = box.state.lease == arg.token
local forgotten = box.state.lease == FORGOTTEN .. arg.token
if answer.held or forgotten then
  count('attempts:' .. arg.answer.class)
  if arg.answer.took_us then
    count_time('latency', arg.answer.took_us)
  end
end
if answer.held then
  answer.due_us = settle_mailbox(box)
elseif forgotten then
  end_forgotten(box)
end
answer.open = open
if arg.next then
  answer.next = next_delivery(arg.next)
end
write_pace()
write_counts()
return cjson.encode(answer)
