-- GET of a record of PocketBase, without its log.

local common = require("common")
local format = string.format
local shape

function init(arguments)
    common.begin(arguments)
    shape = common.request("GET", "/api/collections/jobs/records/%s", {})
end

function request()
    return format(shape, common.id())
end
