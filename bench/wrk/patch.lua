-- PATCH /jobs/{id}, or another path with a `%s` for the id: another progress and another stage in every request.

local common = require("common")
local BODY = '{"progress_pct":%s,"stage":"Matting subject %s"}'
local format = string.format
local shape

function init(arguments)
    common.begin(arguments)
    local counted, mark = common.mark()
    local length = #format(BODY, common.percent(counted), mark)
    shape = common.request("PATCH", arguments[4] or "/jobs/%s", {}, BODY, length)
end

function request()
    local counted, mark = common.mark()
    return format(shape, common.id(), common.percent(counted), mark)
end
