/* A fake libnvidia-ml.so.1 for the real nvidia-ml-py. Its state file, $PERFMON_FAKE_NVML, has lines such as
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

enum { INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, UNINITIALIZED = 1, OTHER_VERSION = 25 };
enum { GPUS = 16, SLICES = 8 };

typedef struct { int gpu, slice; char name[24]; } Device;
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
static int begin(const char *function, const char *where) {
    state_refresh();
    state_log(function, where);
    if (!initialised && strcmp(function, "nvmlInitWithFlags")) return UNINITIALIZED;
    long long pause = state_number("sleep", function, 0);
    if (pause) usleep(1000 * pause);
    while (state_number("hang", function, 0)) { usleep(5000); state_refresh(); }
    int code = state_number(where, function, 0);
    return code ? code : state_number("all", function, 0);
}
#define BEGIN(where) do { int code = begin(__func__, where); if (code) return code; } while (0)

int nvmlInitWithFlags(unsigned flags) {
    BEGIN("driver");
    initialised++;
    return 0;
}

int nvmlShutdown(void) { BEGIN("driver"); initialised = 0; return 0; }
const char *nvmlErrorString(int code) { static char text[40]; snprintf(text, 40, "fake error %d", code); return text; }
int nvmlDeviceGetCount_v2(unsigned *count) { BEGIN("driver"); *count = state_number("", "count", 0); return 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    BEGIN("driver");
    if (index >= state_number("", "count", 0)) return INVALID;
    *device = device_at(index, -1);
    return begin("attach", (*device)->name);
}

static int search(const char *key, const char *text, Device **device) {
    char value[128];
    for (int gpu = 0; gpu < state_number("", "count", 0); gpu++)
        for (int slice = -1; slice < SLICES; slice++) {
            Device *candidate = device_at(gpu, slice);
            if (state_copy(candidate->name, key, value, sizeof value) && !strcasecmp(value, text)) {
                *device = candidate;
                return begin("attach", candidate->name);
            }
        }
    return NOT_FOUND;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device) { BEGIN("driver"); return search("uuid", uuid, device); }
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, Device **device) { BEGIN("driver"); return search("pci", pci, device); }

static int text(Device *device, const char *key, char *to, unsigned size) {
    return state_copy(device->name, key, to, size) ? 0 : NOT_SUPPORTED;
}
int nvmlDeviceGetName(Device *device, char *to, unsigned size) { BEGIN(device->name); return text(device, "name", to, size); }
int nvmlDeviceGetUUID(Device *device, char *to, unsigned size) { BEGIN(device->name); return text(device, "uuid", to, size); }
int nvmlDeviceGetIndex(Device *device, unsigned *index) { BEGIN(device->name); *index = device->gpu; return 0; }

static int value(Device *device, const char *key, unsigned *to) {
    if (!state_value(device->name, key)) return NOT_SUPPORTED;
    *to = state_number(device->name, key, 0);
    return 0;
}
int nvmlDeviceGetPowerUsage(Device *device, unsigned *to) { BEGIN(device->name); return value(device, "power", to); }
int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *to) { BEGIN(device->name); return value(device, "power_limit", to); }
int nvmlDeviceGetClockInfo(Device *device, int kind, unsigned *to) { BEGIN(device->name); return kind == 1 ? value(device, "clock", to) : INVALID; }
int nvmlDeviceGetMaxClockInfo(Device *device, int kind, unsigned *to) { BEGIN(device->name); return kind == 1 ? value(device, "clock_limit", to) : INVALID; }

int nvmlDeviceGetUtilizationRates(Device *device, unsigned *to) {
    BEGIN(device->name);
    return value(device, "utilization", to) || value(device, "activity", to + 1) ? NOT_SUPPORTED : 0;
}

int nvmlDeviceGetMemoryInfo(Device *device, unsigned long long *to) {
    BEGIN(device->name);
    if (!state_value(device->name, "total")) return NOT_SUPPORTED;
    unsigned long long total = state_number(device->name, "total", 0), used = state_number(device->name, "used", 0);
    used += state_number(device->name, "reserved", 0);
    to[0] = total; to[1] = total - used; to[2] = used;
    return 0;
}

int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    BEGIN(device->name);
    *current = *pending = state_number(device->name, "mig", 0);
    return 0;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device *slice, Device **device) {
    BEGIN(slice->name);
    *device = device_at(slice->gpu, -1);
    return slice->slice < 0 ? INVALID : 0;
}
int nvmlDeviceGetGpuInstanceId(Device *device, unsigned *to) { BEGIN(device->name); return value(device, "gi", to); }
int nvmlDeviceGetComputeInstanceId(Device *device, unsigned *to) { BEGIN(device->name); *to = 0; return 0; }

#ifndef OLD_DRIVER
typedef struct { unsigned version; unsigned long long total, reserved, available, used; } Memory;
int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory *to) {
    BEGIN(device->name);
    if (to->version != (sizeof *to | 2 << 24)) return OTHER_VERSION;
    if (!state_value(device->name, "total")) return NOT_SUPPORTED;
    to->total = state_number(device->name, "total", 0);
    to->reserved = state_number(device->name, "reserved", 0);
    to->used = state_number(device->name, "used", 0);
    to->available = to->total - to->reserved - to->used;
    return 0;
}

typedef union { double d; unsigned u; unsigned long long ull; } Value;
typedef struct { unsigned long long stamp; Value value; } SampleOfTime;
/* gpu0.samples 1000000:10 1166666:30 … in microseconds and percent; gpu0.memory_samples likewise. */
int nvmlDeviceGetSamples(Device *device, int kind, unsigned long long last, int *form, unsigned *count, SampleOfTime *to) {
    BEGIN(device->name);
    char line[8192], *next = line;
    if (!state_copy(device->name, kind == 1 ? "samples" : "memory_samples", line, sizeof line)) return NOT_SUPPORTED;
    unsigned size = *count, found = 0;
    if (!to) { *count = 120; return 0; }
    *form = 1;
    while (*next) {
        unsigned long long stamp = strtoull(next, &next, 10);
        unsigned number = strtoul(next + 1, &next, 10);
        next += *next == ' ';
        if (stamp <= last) continue;
        if (found == size) return TOO_SMALL;
        memset(&to[found].value, 0xff, sizeof(Value)); /* what the value does not cover is undefined */
        to[found].stamp = stamp;
        to[found++].value.u = number;
    }
    *count = found;
    return found ? 0 : NOT_FOUND;
}

typedef struct { unsigned field, scope; long long stamp, latency; int form, code; Value value; } Field;
/* gpu0.field197 12345 is a counter of 64 bits; gpu0.narrow 1 makes all of them 32 bits wide. */
int nvmlDeviceGetFieldValues(Device *device, int count, Field *fields) {
    BEGIN(device->name);
    for (int i = 0; i < count; i++) {
        char key[24];
        snprintf(key, sizeof key, "field%u", fields[i].field);
        int nvlink = fields[i].field == 138 || fields[i].field == 139;
        fields[i].code = state_value(device->name, key) ? 0 : NOT_SUPPORTED;
        if (nvlink && fields[i].scope != 0xffffffff) fields[i].code = INVALID;
        fields[i].form = state_number(device->name, "narrow", 0) ? 1 : 3;
        fields[i].value.ull = state_number(device->name, key, 0);
        if (nvlink) memset(&fields[count], 0xee, sizeof *fields); /* as the real one was seen to do */
    }
    return 0;
}

/* GPM: gpu0.gpm 1 where it is supported; gpu0.busy3 5000 is a counter of instance 3, in percent x seconds. */
typedef struct { unsigned version, supported; } Support;
typedef struct { long long busy; } GpmSample;
typedef struct { unsigned id; int code; double value; char *names[3]; } GpmMetric;
typedef struct { unsigned version, count; GpmSample *first, *second; GpmMetric metrics[]; } GpmRequest;
int nvmlGpmQueryDeviceSupport(Device *device, Support *to) {
    BEGIN(device->name);
    to->supported = state_number(device->name, "gpm", 0);
    return 0;
}
int nvmlGpmSampleAlloc(GpmSample **sample) { BEGIN("driver"); *sample = calloc(1, sizeof **sample); return 0; }
int nvmlGpmMigSampleGet(Device *device, unsigned instance, GpmSample *sample) {
    BEGIN(device->name);
    char key[24];
    snprintf(key, sizeof key, "busy%u", instance);
    if (device->slice >= 0 || !state_value(device->name, key)) return INVALID;
    sample->busy = state_number(device->name, key, 0);
    return 0;
}
int nvmlGpmMetricsGet(GpmRequest *request) {
    BEGIN("driver");
    if (request->version != 1 || request->count != 1) return INVALID;
    request->metrics[0].code = request->metrics[0].id == 1 ? 0 : NOT_SUPPORTED;
    request->metrics[0].value = request->second->busy - request->first->busy;
    return 0;
}
#endif
