/* SPDX-License-Identifier: MIT */
/* A device type of the program's own, by usekvm/device.h: every function is called when the header says so, and its answers arrive. */
#include "kvmtest.h"
#include "usekvm/device.h"

#define TYPE USEKVM_DEV_TYPE_USER
#define TYPE_STAYS (USEKVM_DEV_TYPE_USER + 1)
#define TYPE_BARE USEKVM_DEV_TYPE_LAST

#define RELEASED 0x600dull

struct state {
	u64 value;
};

static int creates, inits, releases, destroys;
static int create_error;
static const void *last_vm;

static int create(struct usekvm_device *dev, uint32_t type)
{
	CHECK_EQ(dev->type, type);
	if (create_error)
		return -create_error;
	dev->priv = calloc(1, sizeof(struct state));
	creates++;
	last_vm = dev->vm;
	return 0;
}

static void init(struct usekvm_device *dev)
{
	CHECK(dev->priv != NULL);
	inits++;
}

static void release_dev(struct usekvm_device *dev)
{
	((struct state *)dev->priv)->value = RELEASED;
	releases++;
}

static void destroy(struct usekvm_device *dev)
{
	if (dev->ops->release)
		CHECK_EQ(((struct state *)dev->priv)->value, RELEASED); /* comes first */
	free(dev->priv);
	destroys++;
}

static int has_attr(struct usekvm_device *dev, const struct kvm_device_attr *a)
{
	return a->group == 7 && a->attr == 1 ? 0 : -ENXIO;
}

static int set_attr(struct usekvm_device *dev, const struct kvm_device_attr *a)
{
	struct state *s = dev->priv;

	if (has_attr(dev, a))
		return -ENXIO;
	return usekvm_copy_from_user(&s->value, a->addr, sizeof(s->value));
}

static int get_attr(struct usekvm_device *dev, const struct kvm_device_attr *a)
{
	struct state *s = dev->priv;

	if (has_attr(dev, a))
		return -ENXIO;
	return usekvm_copy_to_user(a->addr, &s->value, sizeof(s->value));
}

static long other(struct usekvm_device *dev, unsigned int request, unsigned long arg)
{
	return request == 0x1234 ? (long)arg + 1 : -ENOTTY;
}

static int map(struct usekvm_device *dev, void *addr, size_t len, int prot, int flags, int64_t offset)
{
	if (offset)
		return -EINVAL;
	void *p = mmap(addr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (p != addr)
		return -ENOMEM;
	memcpy(p, "mapped", 7);
	return 0;
}

static const struct usekvm_device_ops ops = {
	.name = "test-device", .create = create, .init = init, .destroy = destroy, .release = release_dev,
	.set_attr = set_attr, .get_attr = get_attr, .has_attr = has_attr, .ioctl = other, .mmap = map,
};
static const struct usekvm_device_ops stays = {.name = "test-stays", .create = create, .destroy = destroy};
static const struct usekvm_device_ops bare = {.name = "test-bare", .create = create, .destroy = destroy};

static int make(int vm, u32 type)
{
	struct kvm_create_device cd = {.type = type};

	return ioctl(vm, KVM_CREATE_DEVICE, &cd) ? -1 : (int)cd.fd;
}

static int attr(int dev, unsigned long req, u32 group, void *addr)
{
	struct kvm_device_attr a = {.group = group, .attr = 1, .addr = (u64)addr};

	return ioctl(dev, req, &a);
}

static void registering(void)
{
	struct usekvm_device_ops bad = ops;

	CHECK_ERR(usekvm_device_register(KVM_DEV_TYPE_VFIO, &ops), EINVAL);
	CHECK_ERR(usekvm_device_register(USEKVM_DEV_TYPE_STATS, &ops), EINVAL);
	CHECK_ERR(usekvm_device_register(USEKVM_DEV_TYPE_LAST + 1, &ops), EINVAL);
	CHECK_ERR(usekvm_device_register(TYPE, NULL), EINVAL);
	bad.name = NULL;
	CHECK_ERR(usekvm_device_register(TYPE, &bad), EINVAL);
	bad.name = "a name that is longer than forty characters";
	CHECK_ERR(usekvm_device_register(TYPE, &bad), EINVAL);
	bad = ops;
	bad.create = NULL;
	CHECK_ERR(usekvm_device_register(TYPE, &bad), EINVAL);
	bad = ops;
	bad.destroy = NULL;
	CHECK_ERR(usekvm_device_register(TYPE, &bad), EINVAL);
	CHECK_OK(usekvm_device_register(TYPE, &ops));
	CHECK_ERR(usekvm_device_register(TYPE, &stays), EEXIST);
	CHECK_OK(usekvm_device_register(TYPE_STAYS, &stays));
	CHECK_OK(usekvm_device_register(TYPE_BARE, &bare));
}

static void calls(void)
{
	u64 val = 0x1122334455667788, got = 0;
	char path[64], link[128] = "";
	struct vm v;
	int dev;

	vm_open(&v);
	dev = make(v.vm, TYPE);
	REQUIRE(dev >= 0);
	CHECK_EQ(creates, 1);
	CHECK_EQ(inits, 1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dev);
	CHECK(readlink(path, link, sizeof(link) - 1) > 0 && strstr(link, "test-device"));
	CHECK_OK(attr(dev, KVM_HAS_DEVICE_ATTR, 7, NULL));
	CHECK_ERR(attr(dev, KVM_HAS_DEVICE_ATTR, 6, NULL), ENXIO);
	CHECK_OK(attr(dev, KVM_SET_DEVICE_ATTR, 7, &val));
	CHECK_OK(attr(dev, KVM_GET_DEVICE_ATTR, 7, &got));
	CHECK_EQ(got, val);
	CHECK_ERR(attr(dev, KVM_SET_DEVICE_ATTR, 7, KT_BAD), EFAULT);
	CHECK_ERR(attr(dev, KVM_GET_DEVICE_ATTR, 7, KT_BAD), EFAULT);
	CHECK_ERR(attr(dev, KVM_SET_DEVICE_ATTR, 8, &val), ENXIO);
	CHECK_ERR(ioctl(dev, KVM_GET_DEVICE_ATTR, KT_BAD), EFAULT);
	CHECK_EQ(ioctl(dev, 0x1234, 41ul), 42);
	CHECK_ERR(ioctl(dev, 0x1235, 0ul), ENOTTY);
	char *p = mmap(NULL, 5000, PROT_READ, MAP_SHARED, dev, 0);
	CHECK(p != MAP_FAILED && !strcmp(p, "mapped"));
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, dev, 4096) == MAP_FAILED && errno == EINVAL);
	/* The device holds the VM; its end is its descriptor's. */
	close(v.vm);
	close(v.sys);
	CHECK_OK(attr(dev, KVM_GET_DEVICE_ATTR, 7, &got));
	CHECK_EQ(destroys, 0);
	close(dev);
	CHECK_EQ(releases, 1);
	CHECK_EQ(destroys, 1);
}

static void bare_type(void)
{
	struct vm v;
	int dev, was;
	u64 val;

	vm_open(&v);
	dev = make(v.vm, TYPE_BARE);
	REQUIRE(dev >= 0);
	CHECK_ERR(attr(dev, KVM_HAS_DEVICE_ATTR, 7, NULL), EPERM);
	CHECK_ERR(attr(dev, KVM_SET_DEVICE_ATTR, 7, &val), EPERM);
	CHECK_ERR(attr(dev, KVM_GET_DEVICE_ATTR, 7, &val), EPERM);
	CHECK_ERR(ioctl(dev, 0x1234, 0ul), ENOTTY);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, dev, 0) == MAP_FAILED && errno == ENODEV);
	/* Without release it stays until the VM ends. */
	was = destroys;
	close(dev);
	CHECK_EQ(destroys, was);
	dev = make(v.vm, TYPE_STAYS);
	close(v.vm);
	CHECK_EQ(destroys, was);
	close(dev);
	CHECK_EQ(destroys, was + 2);
	close(v.sys);
}

static void failing(void)
{
	struct vm v;
	int made = creates, gone = destroys, dev;

	vm_open(&v);
	create_error = EDOM;
	CHECK_ERR(make(v.vm, TYPE), EDOM);
	create_error = 0;
	CHECK_EQ(destroys, gone); /* not for what was not made */
	CHECK_EQ(creates, made);
	dev = make(v.vm, TYPE);
	CHECK(dev >= 0);
	close(dev);
	close(v.vm);
	close(v.sys);
}

int main(void)
{
	if (!kt_usekvm())
		SKIP("the extension point is usekvm's");
	registering();
	calls();
	bare_type();
	failing();
	CHECK_EQ(creates, destroys);
	return kt_end();
}
