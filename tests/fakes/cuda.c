/* A fake libcuda.so.1. Its state file, $PERFMON_FAKE_CUDA, has lines such as
 *
 *   initialised 1        the program has called cuInit
 *   count 2
 *   device0.active 1     it has a primary context on device 0
 *   device0.pci 0000:0a:00.0
 *   device0.uuid 16 bytes in hexadecimal
 *
 * cuInit ends the process: a monitor must never call it. */
#define STATE_VARIABLE "PERFMON_FAKE_CUDA"
#include "state.h"

enum { INVALID = 1, NOT_INITIALIZED = 3, INVALID_DEVICE = 101 };

static int begin(char *name, int device) {
    state_refresh();
    snprintf(name, 24, "device%d", device);
    if (!state_number("", "initialised", 0)) return NOT_INITIALIZED;
    return device >= state_number("", "count", 0) ? INVALID_DEVICE : 0;
}
#define BEGIN(device) char name[24]; do { int code = begin(name, device); if (code) return code; } while (0)

int cuInit(unsigned flags) { abort(); }
int cuDeviceGetCount(int *count) {
    state_refresh();
    if (!state_number("", "initialised", 0)) return NOT_INITIALIZED;
    *count = state_number("", "count", 0);
    return 0;
}
int cuDeviceGet(int *device, int ordinal) { BEGIN(ordinal); *device = ordinal; return 0; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    BEGIN(device);
    *flags = 0;
    *active = state_number(name, "active", 0);
    return 0;
}
int cuDeviceGetPCIBusId(char *to, int size, int device) { BEGIN(device); return state_copy(name, "pci", to, size) ? 0 : INVALID; }
int cuDeviceGetUuid_v2(unsigned char *to, int device) {
    BEGIN(device);
    char text[40];
    if (!state_copy(name, "uuid", text, sizeof text)) return INVALID;
    for (int i = 0; i < 16; i++) sscanf(text + 2 * i, "%2hhx", to + i);
    return 0;
}
