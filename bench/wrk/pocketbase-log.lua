-- A line of a job's log as a record of its own, as PocketBase has no lists that are appended to.

local common = require("common")
local BODY =
    '{"job":"%s","line":"frame=%s fps=24 q=28.0 size=1024KiB time=00:00:41.08 bitrate=204.2kbits/s speed=1.21x"}'
local format = string.format
local shape

function init(arguments)
    common.begin(arguments)
    local _, mark = common.mark()
    shape = common.request("POST", "/api/collections/lines/records", {}, BODY, #format(BODY, common.id(), mark))
end

function request()
    local _, mark = common.mark()
    return format(shape, common.id(), mark)
end
