-- What every load has in common: jobs picked at random, a text that no other request has, and the end as one line of JSON.
--
-- wrk ... URL -- JOBS TAG SEED [OPERATIONS | PATH]: ids are those that bench/harness/stores.py gives; a TAG is used once, so that
-- a change is a change whatever an earlier run has left behind; SEED makes the picks repeatable.
-- There is no `response` function: with one, wrk takes apart every answer in Lua and becomes the bottleneck.

local common = {}

local ID = "0199e0c1-7c1e-7a52-9d0e-%012x"
-- As long in every request, so that its Content-Length is too.
local MARK = "%s-%x-%08d"

local format, random = string.format, math.random
local jobs, tag
local count = 0

local threads = 0
-- Runs in wrk's main thread, once for each of its threads.
function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

-- Reads the arguments; each load calls it from `init`, which runs in each thread.
function common.begin(arguments)
    jobs, tag = tonumber(arguments[1]), arguments[2]
    math.randomseed(tonumber(arguments[3]) * 64 + number)
end

function common.id()
    return format(ID, random(0, jobs - 1))
end

-- The number of this request or operation in its thread, and a text that no other has.
function common.mark()
    count = count + 1
    return count, format(MARK, tag, number, count)
end

-- A percentage of as many digits whatever the count.
function common.percent(counted)
    local hundredths = counted % 9000 + 1000
    return format("%d.%02d", hundredths / 100, hundredths % 100)
end

-- A request as a format, with a `%s` for each of its parts; `length` is that of its body.
function common.request(method, path, headers, body, length)
    local lines = { method .. " " .. path .. " HTTP/1.1", "Host: " .. wrk.host .. ":" .. wrk.port }
    for _, header in ipairs(headers) do
        lines[#lines + 1] = header
    end
    if body then
        lines[#lines + 1] = "Content-Type: application/json"
        lines[#lines + 1] = "Content-Length: " .. length
    end
    return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

function done(summary, latency)
    local errors = summary.errors
    io.write(format(
        '\n{"requests": %d, "microseconds": %d, "bytes": %d, "p50": %d, "p90": %d, "p99": %d, "max": %d, '
            .. '"errors": {"status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}}\n',
        summary.requests, summary.duration, summary.bytes,
        latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
        errors.status, errors.connect, errors.read, errors.write, errors.timeout
    ))
end

return common
