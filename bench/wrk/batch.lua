-- POST /batch: an array of operations, each another progress and stage of some job.

local common = require("common")
local OPERATION = '{"op":"patch","id":"%s","progress_pct":%s,"stage":"Matting subject %s"}'
local format, concat = string.format, table.concat
local operations, shape
local array = {}

local function operation()
    local counted, mark = common.mark()
    return format(OPERATION, common.id(), common.percent(counted), mark)
end

function init(arguments)
    common.begin(arguments)
    operations = tonumber(arguments[4])
    -- Brackets, the operations, and a comma between each two.
    local length = 2 + operations * #operation() + operations - 1
    shape = common.request("POST", "/batch", {}, "[%s]", length)
end

function request()
    for index = 1, operations do
        array[index] = operation()
    end
    return format(shape, concat(array, ","))
end
