/* A fake libnvidia-ml.so.1 for the real nvidia-ml-py, compiled with NVIDIA's own header: sizes, versions and
 * signatures are those of nvml.h. Its state file, $PERFMON_FAKE_NVML, has lines such as
 *
 *   count 2                                how many GPUs
 *   gpu0.uuid GPU-aaaa                     a value of GPU 0; gpu0mig1.… of its MIG slice 1
 *   gpu0.nvmlDeviceGetPowerUsage 3         the error code that this call returns for GPU 0
 *   all.nvmlDeviceGetPowerUsage 3          … for every GPU
 *   sleep.nvmlDeviceGetPowerUsage 3000     milliseconds that this call takes
 *   hang.nvmlDeviceGetPowerUsage 1         this call returns only when the line is gone
 *
 * With -DOLD_DRIVER the symbols that came with driver 510 and later are left out. */
#define STATE_VARIABLE "PERFMON_FAKE_NVML"
#include "state.h"
#define NVML_NO_UNVERSIONED_FUNC_DEFS /* declares the earlier versions of a function too */
#include <nvml.h>

#define INVALID NVML_ERROR_INVALID_ARGUMENT
#define NOT_SUPPORTED NVML_ERROR_NOT_SUPPORTED
enum { GPUS = 16, SLICES = 8 };

typedef struct nvmlDevice_st { int gpu, slice; char name[24]; } Device;
static Device devices[GPUS][SLICES + 1]; /* the last one of each is the GPU itself */
static int initialised;

static Device *device_at(int gpu, int slice) {
    Device *device = &devices[gpu][slice < 0 ? SLICES : slice];
    device->gpu = gpu;
    device->slice = slice;
    if (slice < 0) snprintf(device->name, sizeof device->name, "gpu%d", gpu);
    else snprintf(device->name, sizeof device->name, "gpu%dmig%d", gpu, slice);
    return device;
}

/* What every call does first: be slow, hang or fail as the state says. */
static nvmlReturn_t begin(const char *function, const char *where) {
    state_refresh();
    state_log(function, where);
    if (!initialised && strcmp(function, "nvmlInitWithFlags")) return NVML_ERROR_UNINITIALIZED;
    long long pause = state_number("sleep", function, 0);
    if (pause) usleep(1000 * pause);
    while (state_number("hang", function, 0)) { usleep(5000); state_refresh(); }
    int code = state_number(where, function, 0);
    return code ? code : state_number("all", function, 0);
}
#define BEGIN(where) do { nvmlReturn_t code = begin(__func__, where); if (code) return code; } while (0)

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    BEGIN("driver");
    initialised++;
    return 0;
}

nvmlReturn_t nvmlShutdown(void) { BEGIN("driver"); initialised = 0; return 0; }
const char *nvmlErrorString(nvmlReturn_t code) { static char text[40]; snprintf(text, 40, "fake error %d", code); return text; }
/* driver_version 535.54.03; by default one that translates process ids. */
nvmlReturn_t nvmlSystemGetDriverVersion(char *to, unsigned size) {
    BEGIN("driver");
    if (!state_copy("", "driver_version", to, size)) snprintf(to, size, "575.57.08");
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) { BEGIN("driver"); *count = state_number("", "count", 0); return 0; }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    BEGIN("driver");
    if (index >= state_number("", "count", 0)) return INVALID;
    *device = device_at(index, -1);
    return begin("attach", (*device)->name);
}

static nvmlReturn_t search(const char *key, const char *text, nvmlDevice_t *device) {
    char value[128];
    for (int gpu = 0; gpu < state_number("", "count", 0); gpu++)
        for (int slice = -1; slice < SLICES; slice++) {
            Device *candidate = device_at(gpu, slice);
            if (state_copy(candidate->name, key, value, sizeof value) && !strcasecmp(value, text)) {
                *device = candidate;
                return begin("attach", candidate->name);
            }
        }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) { BEGIN("driver"); return search("uuid", uuid, device); }
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *pci, nvmlDevice_t *device) { BEGIN("driver"); return search("pci", pci, device); }

static nvmlReturn_t text(Device *device, const char *key, char *to, unsigned size) {
    return state_copy(device->name, key, to, size) ? 0 : NOT_SUPPORTED;
}
nvmlReturn_t nvmlDeviceGetName(Device *device, char *to, unsigned size) { BEGIN(device->name); return text(device, "name", to, size); }
nvmlReturn_t nvmlDeviceGetUUID(Device *device, char *to, unsigned size) { BEGIN(device->name); return text(device, "uuid", to, size); }
nvmlReturn_t nvmlDeviceGetIndex(Device *device, unsigned *index) { BEGIN(device->name); *index = device->gpu; return 0; }

static nvmlReturn_t value(Device *device, const char *key, unsigned *to) {
    if (!state_value(device->name, key)) return NOT_SUPPORTED;
    *to = state_number(device->name, key, 0);
    return 0;
}
nvmlReturn_t nvmlDeviceGetMinorNumber(Device *device, unsigned *to) { BEGIN(device->name); return value(device, "minor", to); }
nvmlReturn_t nvmlDeviceGetPowerUsage(Device *device, unsigned *to) { BEGIN(device->name); return value(device, "power", to); }
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *to) { BEGIN(device->name); return value(device, "power_limit", to); }
nvmlReturn_t nvmlDeviceGetClockInfo(Device *device, nvmlClockType_t kind, unsigned *to) { BEGIN(device->name); return kind == NVML_CLOCK_SM ? value(device, "clock", to) : INVALID; }
nvmlReturn_t nvmlDeviceGetMaxClockInfo(Device *device, nvmlClockType_t kind, unsigned *to) { BEGIN(device->name); return kind == NVML_CLOCK_SM ? value(device, "clock_limit", to) : INVALID; }

nvmlReturn_t nvmlDeviceGetUtilizationRates(Device *device, nvmlUtilization_t *to) {
    BEGIN(device->name);
    return value(device, "utilization", &to->gpu) || value(device, "activity", &to->memory) ? NOT_SUPPORTED : 0;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(Device *device, nvmlMemory_t *to) {
    BEGIN(device->name);
    if (!state_value(device->name, "total")) return NOT_SUPPORTED;
    unsigned long long total = state_number(device->name, "total", 0), used = state_number(device->name, "used", 0);
    used += state_number(device->name, "reserved", 0);
    to->total = total; to->free = total - used; to->used = used;
    return 0;
}

nvmlReturn_t nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    BEGIN(device->name);
    *current = *pending = state_number(device->name, "mig", 0);
    return 0;
}
nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device *slice, nvmlDevice_t *device) {
    BEGIN(slice->name);
    *device = device_at(slice->gpu, -1);
    return slice->slice < 0 ? INVALID : 0;
}
nvmlReturn_t nvmlDeviceGetGpuInstanceId(Device *device, unsigned *to) { BEGIN(device->name); return value(device, "gi", to); }
nvmlReturn_t nvmlDeviceGetComputeInstanceId(Device *device, unsigned *to) { BEGIN(device->name); *to = 0; return 0; }

/* gpu0.compute 4242:1048576 77:none … the processes with what they hold; gpu0.graphics and gpu0.mps likewise.
 * gpu0.growth 300 adds 100 processes of others at each call, up to that number. gpu0.wide 1 makes the entries
 * 8 bytes larger, as drivers 535.43 to 535.98 did. */
static nvmlReturn_t processes(Device *device, const char *kind, unsigned *count, nvmlProcessInfo_t *to) {
    static unsigned grown;
    char line[8192], *next = line;
    unsigned room = *count, found = 0, wide = state_number(device->name, "wide", 0) ? 8 : 0;
    if (!state_copy(device->name, kind, line, sizeof line)) return NOT_SUPPORTED;
    if (grown < state_number(device->name, "growth", 0)) grown += 100;
    unsigned others = state_value(device->name, "growth") ? grown : 0;
    if (!to) room = 0;
    for (unsigned other = 0; *next || other < others; found++) {
        nvmlProcessInfo_t one = {.pid = 900000 + other, .usedGpuMemory = 1, .gpuInstanceId = ~0u, .computeInstanceId = ~0u};
        if (*next) {
            one.pid = strtoul(next, &next, 10);
            if (!strncmp(next, ":none", 5)) { one.usedGpuMemory = NVML_VALUE_NOT_AVAILABLE; next += 5; }
            else one.usedGpuMemory = strtoull(next + 1, &next, 10);
            next += *next == ' ';
        } else other++;
        if (found < room) memcpy((char *)to + found * (sizeof one + wide), &one, sizeof one);
    }
    *count = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(Device *device, unsigned *count, nvmlProcessInfo_t *to) { BEGIN(device->name); return processes(device, "compute", count, to); }
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v2(Device *device, unsigned *count, nvmlProcessInfo_t *to) { BEGIN(device->name); return processes(device, "graphics", count, to); }

#ifndef OLD_DRIVER
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count, nvmlProcessInfo_t *to) { BEGIN(device->name); return processes(device, "compute", count, to); }
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(Device *device, unsigned *count, nvmlProcessInfo_t *to) { BEGIN(device->name); return processes(device, "graphics", count, to); }
nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(Device *device, unsigned *count, nvmlProcessInfo_t *to) { BEGIN(device->name); return processes(device, "mps", count, to); }

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(Device *device, nvmlMemory_v2_t *to) {
    BEGIN(device->name);
    if (to->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (!state_value(device->name, "total")) return NOT_SUPPORTED;
    to->total = state_number(device->name, "total", 0);
    to->reserved = state_number(device->name, "reserved", 0);
    to->used = state_number(device->name, "used", 0);
    to->free = to->total - to->reserved - to->used;
    return 0;
}

/* gpu0.samples 1000000:10 1166666:30 … in microseconds and percent; gpu0.memory_samples likewise. */
nvmlReturn_t nvmlDeviceGetSamples(Device *device, nvmlSamplingType_t kind, unsigned long long last, nvmlValueType_t *form, unsigned *count, nvmlSample_t *to) {
    BEGIN(device->name);
    char line[8192], *next = line;
    if (!state_copy(device->name, kind == NVML_GPU_UTILIZATION_SAMPLES ? "samples" : "memory_samples", line, sizeof line)) return NOT_SUPPORTED;
    unsigned size = *count, found = 0;
    if (!to) { *count = 120; return 0; }
    *form = NVML_VALUE_TYPE_UNSIGNED_INT;
    while (*next) {
        unsigned long long stamp = strtoull(next, &next, 10);
        unsigned number = strtoul(next + 1, &next, 10);
        next += *next == ' ';
        if (stamp <= last) continue;
        if (found == size) return NVML_ERROR_INSUFFICIENT_SIZE;
        memset(&to[found].sampleValue, 0xff, sizeof(nvmlValue_t)); /* what the value does not cover is undefined */
        to[found].timeStamp = stamp;
        to[found++].sampleValue.uiVal = number;
    }
    *count = found;
    return found ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

/* gpu0.field197 12345 is a counter of 64 bits; gpu0.narrow 1 makes all of them 32 bits wide. */
nvmlReturn_t nvmlDeviceGetFieldValues(Device *device, int count, nvmlFieldValue_t *fields) {
    BEGIN(device->name);
    for (int i = 0; i < count; i++) {
        nvmlFieldValue_t *field = &fields[i];
        char key[24];
        snprintf(key, sizeof key, "field%u", field->fieldId);
        int nvlink = field->fieldId == NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX || field->fieldId == NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX;
        field->nvmlReturn = state_value(device->name, key) ? NVML_SUCCESS : NOT_SUPPORTED;
        if (nvlink && field->scopeId != 0xffffffff) field->nvmlReturn = INVALID;
        memset(&field->value, 0xff, sizeof field->value); /* what the value does not cover is undefined */
        if (state_number(device->name, "narrow", 0)) {
            field->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
            field->value.uiVal = state_number(device->name, key, 0);
        } else {
            field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
            field->value.ullVal = state_number(device->name, key, 0);
        }
        if (nvlink) memset(&fields[count], 0xee, sizeof *fields); /* as the real one was seen to do */
    }
    return NVML_SUCCESS;
}

/* GPM: gpu0.gpm 1 where it is supported; gpu0.busy3 5000 is a counter of instance 3, in percent x seconds. */
struct nvmlGpmSample_st { long long busy; };
nvmlReturn_t nvmlGpmQueryDeviceSupport(Device *device, nvmlGpmSupport_t *to) {
    BEGIN(device->name);
    if (to->version != NVML_GPM_SUPPORT_VERSION) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    to->isSupportedDevice = state_number(device->name, "gpm", 0);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample) { BEGIN("driver"); *sample = calloc(1, sizeof **sample); return NVML_SUCCESS; }
nvmlReturn_t nvmlGpmMigSampleGet(Device *device, unsigned instance, nvmlGpmSample_t sample) {
    BEGIN(device->name);
    char key[24];
    snprintf(key, sizeof key, "busy%u", instance);
    if (device->slice >= 0 || !state_value(device->name, key)) return INVALID;
    sample->busy = state_number(device->name, key, 0);
    return 0;
}
nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *request) {
    BEGIN("driver");
    if (request->version != NVML_GPM_METRICS_GET_VERSION) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (request->numMetrics != 1) return INVALID;
    nvmlGpmMetric_t *metric = &request->metrics[0];
    metric->nvmlReturn = metric->metricId == NVML_GPM_METRIC_GRAPHICS_UTIL ? NVML_SUCCESS : NOT_SUPPORTED;
    metric->value = request->sample2->busy - request->sample1->busy;
    return NVML_SUCCESS;
}
#endif
