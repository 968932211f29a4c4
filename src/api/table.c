/* SPDX-License-Identifier: MIT */
/*
 * Request number -> entry, by kind of fd. All 32 bits decide: the low byte alone is not unique.
 */
#include "api/call.h"

#define X(request, kind, fn) { (u32)(request), kind, #request, fn },
static const struct api_entry system_table[] = {
#define API_SYSTEM
#include "api/table.h"
#undef API_SYSTEM
};
static const struct api_entry vm_table[] = {
#define API_VM
#include "api/table.h"
#undef API_VM
};
static const struct api_entry vcpu_table[] = {
#define API_VCPU
#include "api/table.h"
#undef API_VCPU
};
#undef X

static const struct api_entry *find(const struct api_entry *t, unsigned n, u32 request)
{
	for (unsigned i = 0; i < n; i++)
		if (t[i].request == request)
			return &t[i];
	return NULL;
}

const struct api_entry *api_find(enum vfile_kind kind, u32 request)
{
	switch (kind) {
	case VFILE_SYSTEM:
		return find(system_table, ARRAY_SIZE(system_table), request);
	case VFILE_VM:
		return find(vm_table, ARRAY_SIZE(vm_table), request);
	case VFILE_VCPU:
		return find(vcpu_table, ARRAY_SIZE(vcpu_table), request);
	default:
		return NULL;
	}
}
