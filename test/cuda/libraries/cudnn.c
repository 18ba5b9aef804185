// A cuDNN that computes nothing, for onnxruntime's CUDA provider. It plans every convolution with one engine that needs no
// workspace, and counts those with uneven pads: not every cuDNN has an engine for them.
#include "counters.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0 };

// Its arguments are not read.
#define COUNTED(name)        \
  int name(void) {           \
    fake_count(LAUNCHES, 1); \
    return SUCCESS;          \
  }
COUNTED(cudnnAddTensor)
COUNTED(cudnnBackendExecute)
COUNTED(cudnnBatchNormalizationForwardInference)
COUNTED(cudnnBatchNormalizationForwardTraining)
COUNTED(cudnnPoolingForward)
COUNTED(cudnnReduceTensor)

size_t cudnnGetVersion(void) {
  return 91400;
}

// Handles and descriptors of the older functions: one for all, because nothing is read from them.

static int nothing;

#define CREATES(name)     \
  int name(void **made) { \
    *made = &nothing;     \
    return SUCCESS;       \
  }
CREATES(cudnnCreate)
CREATES(cudnnCreateFilterDescriptor)
CREATES(cudnnCreatePoolingDescriptor)
CREATES(cudnnCreateReduceTensorDescriptor)
CREATES(cudnnCreateTensorDescriptor)

int cudnnGetReductionWorkspaceSize(void *handle, void *reduction, void *from, void *to, size_t *bytes) {
  *bytes = 1 << 20;
  return SUCCESS;
}

int cudnnGetReductionIndicesSize(void *handle, void *reduction, void *from, void *to, size_t *bytes) {
  *bytes = 0;
  return SUCCESS;
}

int cudnnGetStream(void *handle, void **stream) {
  *stream = NULL;
  return SUCCESS;
}

// The graphs of newer functions, which are built of descriptors with attributes. Numbers are those of cudnn_graph_v9.h.

enum {
  CONVOLUTION_DESCRIPTOR = 1,
  ATTRIBUTE_POST_PADDINGS = 104,
  ATTRIBUTE_PRE_PADDINGS = 105,
  ATTRIBUTE_KNOB_CHOICES = 302,
  ATTRIBUTE_NUMERICAL_NOTES = 1303,
  ATTRIBUTE_BEHAVIOR_NOTES = 1305,
  TYPE_INT64 = 3,
  TYPE_KNOB = 23,
};

enum { MOST_AXES = 8 };

struct descriptor {
  int kind;
  int64_t pads_before[MOST_AXES];
  int64_t pads_after[MOST_AXES];
};

int cudnnBackendCreateDescriptor(int kind, struct descriptor **descriptor) {
  *descriptor = calloc(1, sizeof **descriptor);
  (*descriptor)->kind = kind;
  return SUCCESS;
}

int cudnnBackendDestroyDescriptor(struct descriptor *descriptor) {
  free(descriptor);
  return SUCCESS;
}

int cudnnBackendSetAttribute(struct descriptor *descriptor, int attribute, int type, int64_t count, const void *values) {
  if (count > MOST_AXES) return SUCCESS;
  if (attribute == ATTRIBUTE_PRE_PADDINGS) memcpy(descriptor->pads_before, values, count * sizeof(int64_t));
  if (attribute == ATTRIBUTE_POST_PADDINGS) memcpy(descriptor->pads_after, values, count * sizeof(int64_t));
  return SUCCESS;
}

int cudnnBackendFinalize(struct descriptor *descriptor) {
  if (descriptor->kind != CONVOLUTION_DESCRIPTOR) return SUCCESS;
  if (memcmp(descriptor->pads_before, descriptor->pads_after, sizeof descriptor->pads_before) != 0)
    fake_count(UNEVEN_CONVOLUTIONS, 1);
  return SUCCESS;
}

int cudnnBackendGetAttribute(struct descriptor *descriptor, int attribute, int type, int64_t room, int64_t *count,
                             void *values) {
  bool has_none = attribute == ATTRIBUTE_KNOB_CHOICES || attribute == ATTRIBUTE_NUMERICAL_NOTES ||
                  attribute == ATTRIBUTE_BEHAVIOR_NOTES;
  if (count) *count = has_none ? 0 : 1;
  if (has_none || !values) return SUCCESS;
  if (type == TYPE_KNOB) *(int *)values = 0;
  if (type == TYPE_INT64) *(int64_t *)values = 0;
  return SUCCESS;
}

// Functions that have nothing to do. onnxruntime looks each up when it first calls it, and names one that is missing.
#define NOTHING(name) \
  int name(void) {    \
    return SUCCESS;   \
  }
NOTHING(cudnnDeriveBNTensorDescriptor)
NOTHING(cudnnDestroy)
NOTHING(cudnnDestroyPoolingDescriptor)
NOTHING(cudnnDestroyReduceTensorDescriptor)
NOTHING(cudnnDestroyTensorDescriptor)
NOTHING(cudnnSetPoolingNdDescriptor)
NOTHING(cudnnSetReduceTensorDescriptor)
NOTHING(cudnnSetStream)
NOTHING(cudnnSetTensorNdDescriptor)
