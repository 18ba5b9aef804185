// The driver of the fake, which tells how many devices there are.
#include "counters.h"

enum { SUCCESS = 0 };

int cuInit(unsigned flags) {
  return SUCCESS;
}

int cuDeviceGetCount(int *count) {
  *count = fake_device_count();
  return SUCCESS;
}
