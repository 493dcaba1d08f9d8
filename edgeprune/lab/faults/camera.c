/* A V4L2 camera that is a file, for a process that preloads this: the file FAKE_V4L2 answers the ioctls of a UVC webcam.

   FAKE_JPEGS: a folder of 0.jpg, 1.jpg, ... that it sends in turn. FAKE_FPS: what it really gives, whatever it says.
   FAKE_FRAMES, FAKE_THEN: after so many it is silent ("stall"), or gone ("unplug"). It is also silent for as long as
   FAKE_V4L2.silent is there, and gone for as long as FAKE_V4L2.gone is. FAKE_BY_ID: a folder that stands for /dev/v4l/by-id.
   Buffers lie in the file itself, which FFmpeg maps. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (1 << 16)
#define COUNT 4

struct mode { unsigned format, width, height, fps; };
static const struct mode modes[] = {
    {V4L2_PIX_FMT_YUYV, 96, 64, 5}, {V4L2_PIX_FMT_YUYV, 48, 32, 30}, {V4L2_PIX_FMT_MJPEG, 96, 64, 30}, {V4L2_PIX_FMT_MJPEG, 48, 32, 30},
};
#define MODES (sizeof modes / sizeof *modes)
static struct v4l2_pix_format now = {.width = 48, .height = 32, .pixelformat = V4L2_PIX_FMT_YUYV};
static int queue[COUNT], queued, sent, streaming;
static double first_s;

static double clock_s(void) {
    struct timespec now_is;
    clock_gettime(CLOCK_MONOTONIC, &now_is);
    return now_is.tv_sec + now_is.tv_nsec / 1e9;
}

static int ours(int fd) {
    struct stat a, b;
    const char *path = getenv("FAKE_V4L2");
    return path && !fstat(fd, &a) && !stat(path, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static int fail(int error) { errno = error; return -1; }

static int is(const char *what) {
    char path[4096];
    snprintf(path, sizeof path, "%s.%s", getenv("FAKE_V4L2"), what);
    return access(path, F_OK) == 0;
}

static int gone(void) { return is("gone"); }

static void set_format(struct v4l2_pix_format *pix) {
    int best = -1;
    for (unsigned i = 0; i < MODES; i++)
        if (modes[i].format == pix->pixelformat && (best < 0 || (modes[i].width == pix->width && modes[i].height == pix->height)))
            best = i;
    if (best < 0) best = 1;
    pix->pixelformat = modes[best].format, pix->width = modes[best].width, pix->height = modes[best].height;
    pix->field = V4L2_FIELD_NONE, pix->bytesperline = 2 * pix->width;
    pix->sizeimage = pix->pixelformat == V4L2_PIX_FMT_YUYV ? 2 * pix->width * pix->height : BUFFER;
    now = *pix;
}

static unsigned fill(int fd, int index) {
    static char data[BUFFER];
    unsigned size = 2 * now.width * now.height;
    if (now.pixelformat == V4L2_PIX_FMT_MJPEG) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%d.jpg", getenv("FAKE_JPEGS"), sent);
        int file = open(path, O_RDONLY);
        if (file < 0) { snprintf(path, sizeof path, "%s/0.jpg", getenv("FAKE_JPEGS")); file = open(path, O_RDONLY); }
        size = read(file, data, sizeof data);
        close(file);
    } else
        memset(data, 128, size);
    return pwrite(fd, data, size, (off_t)index * BUFFER);
}

static int dequeue(int fd, struct v4l2_buffer *buffer) {
    const char *frames = getenv("FAKE_FRAMES"), *fps = getenv("FAKE_FPS");
    double due_s = first_s + sent / (fps ? atof(fps) : 30.0);
    if (gone()) return fail(ENODEV);
    int over = (frames && sent >= atoi(frames)) || is("silent");
    const char *then = getenv("FAKE_THEN");
    if (over && then && !strcmp(then, "unplug")) return fail(ENODEV);
    if (over || !queued || clock_s() < due_s) {
        if (fcntl(fd, F_GETFL) & O_NONBLOCK) return fail(EAGAIN);
        while (over || clock_s() < due_s) usleep(1000);
    }
    int index = queue[0];
    memmove(queue, queue + 1, sizeof *queue * --queued);
    buffer->index = index, buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC, buffer->sequence = sent;
    buffer->bytesused = fill(fd, index), buffer->length = BUFFER, buffer->m.offset = index * BUFFER;
    double shot_s = clock_s() - 0.04; /* exposed 40 ms ago */
    buffer->timestamp.tv_sec = (long)shot_s, buffer->timestamp.tv_usec = (long)((shot_s - (long)shot_s) * 1e6);
    sent++;
    return 0;
}

static int answer(int fd, unsigned request, void *argument) {
    if (gone()) { queued = streaming = 0; return fail(ENODEV); }
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *c = argument;
        memset(c, 0, sizeof *c);
        strcpy((char *)c->card, "fake");
        c->capabilities = c->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_G_INPUT: *(int *)argument = 0; return 0;
    case VIDIOC_ENUMINPUT: {
        struct v4l2_input *input = argument;
        if (input->index) return fail(EINVAL);
        memset(input, 0, sizeof *input);
        return 0;
    }
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *f = argument;
        if (f->index > 1) return fail(EINVAL);
        f->pixelformat = f->index ? V4L2_PIX_FMT_MJPEG : V4L2_PIX_FMT_YUYV;
        return 0;
    }
    case VIDIOC_ENUM_FRAMESIZES: {
        struct v4l2_frmsizeenum *f = argument;
        unsigned left = f->index;
        for (unsigned i = 0; i < MODES; i++)
            if (modes[i].format == f->pixel_format && !left--) {
                f->type = V4L2_FRMSIZE_TYPE_DISCRETE, f->discrete.width = modes[i].width, f->discrete.height = modes[i].height;
                return 0;
            }
        return fail(EINVAL);
    }
    case VIDIOC_ENUM_FRAMEINTERVALS: {
        struct v4l2_frmivalenum *f = argument;
        for (unsigned i = 0; i < MODES; i++)
            if (!f->index && modes[i].format == f->pixel_format && modes[i].width == f->width && modes[i].height == f->height) {
                f->type = V4L2_FRMIVAL_TYPE_DISCRETE, f->discrete.numerator = 1, f->discrete.denominator = modes[i].fps;
                return 0;
            }
        return fail(EINVAL);
    }
    case VIDIOC_G_FMT: { struct v4l2_format *f = argument; set_format(&now); f->fmt.pix = now; return 0; }
    case VIDIOC_S_FMT:
    case VIDIOC_TRY_FMT: { struct v4l2_format *f = argument; set_format(&f->fmt.pix); return 0; }
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *p = argument;
        memset(&p->parm, 0, sizeof p->parm);
        p->parm.capture.capability = V4L2_CAP_TIMEPERFRAME, p->parm.capture.timeperframe.numerator = 1;
        for (unsigned i = 0; i < MODES; i++)
            if (modes[i].format == now.pixelformat && modes[i].width == now.width)
                p->parm.capture.timeperframe.denominator = modes[i].fps;
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *r = argument;
        if (streaming) return fail(EBUSY);
        r->count = COUNT;
        return 0;
    }
    case VIDIOC_QUERYBUF: { struct v4l2_buffer *b = argument; b->length = BUFFER, b->m.offset = b->index * BUFFER; return 0; }
    case VIDIOC_QBUF: { struct v4l2_buffer *b = argument; if (queued == COUNT) return fail(EINVAL); queue[queued++] = b->index; return 0; }
    case VIDIOC_DQBUF: return dequeue(fd, argument);
    case VIDIOC_STREAMON: first_s = clock_s(), sent = 0, streaming = 1; return 0;
    case VIDIOC_STREAMOFF: queued = streaming = 0; return 0;
    default: return fail(ENOTTY);
    }
}

int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (ours(fd)) return answer(fd, (unsigned)request, argument);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, argument);
}

/* The name under /dev/v4l/by-id as one in FAKE_BY_ID; others as they are. */
static const char *named(const char *path, char *room, size_t size) {
    static const char by_id[] = "/dev/v4l/by-id";
    const char *folder = getenv("FAKE_BY_ID");
    if (!folder || strncmp(path, by_id, sizeof by_id - 1)) return path;
    snprintf(room, size, "%s%s", folder, path + sizeof by_id - 1);
    return room;
}

DIR *opendir(const char *path) {
    char room[4096];
    DIR *(*real)(const char *) = dlsym(RTLD_NEXT, "opendir");
    return real(named(path, room, sizeof room));
}

static int open_as(const char *name, const char *path, int flags, unsigned mode) {
    char room[4096];
    int (*real)(const char *, int, unsigned) = dlsym(RTLD_NEXT, name);
    return real(named(path, room, sizeof room), flags, mode);
}

#define MODE(flags, mode) \
    unsigned mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list arguments; va_start(arguments, flags); mode = va_arg(arguments, unsigned); va_end(arguments); }

int open(const char *path, int flags, ...) { MODE(flags, mode) return open_as("open", path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) return open_as("open64", path, flags, mode); }
