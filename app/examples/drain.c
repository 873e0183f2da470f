/* drain PORT-OF-REMOTE ADDRESS-OF-REMOTE SOCKET-OF-TARGET
 *
 * Connects, sends standard input, hands the connection over to the target, and exits at once: what
 * is not sent by then, and the close, are the target's.  Needs libc and flue/drain.h. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <flue/drain.h>

/* hand_over asks the target to drain a connected socket within `drain_ms`, else to reset it. */
static int hand_over(const char *target_path, int connection, uint32_t drain_ms)
{
    struct flue_drain_message message = {.version = FLUE_DRAIN_VERSION, .type = FLUE_DRAIN_TYPE};
    message.drain_ms                  = drain_ms;
    message.flags                     = FLUE_DRAIN_ABORT_AT_DEADLINE;

    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec data   = {&message, sizeof(message)};
    struct msghdr parts = {.msg_iov        = &data,
                           .msg_iovlen     = 1,
                           .msg_control    = control.bytes,
                           .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *descriptor = CMSG_FIRSTHDR(&parts);
    descriptor->cmsg_level     = SOL_SOCKET;
    descriptor->cmsg_type      = SCM_RIGHTS;
    descriptor->cmsg_len       = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(descriptor), &connection, sizeof(int));

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int target                 = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    strncpy(address.sun_path, target_path, sizeof(address.sun_path) - 1);
    if (connect(target, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        sendmsg(target, &parts, 0) != (ssize_t)sizeof(message))
        return -1;
    /* What became of it: recv(target, &message, sizeof(message), 0), then message.status. */
    return 0;
}

int main(int argc, char **argv)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *remote = NULL;
    static char bytes[1 << 16];
    ssize_t got;

    if (argc != 4 || getaddrinfo(argv[2], argv[1], &hints, &remote) != 0)
        return 2;
    int connection = socket(remote->ai_family, SOCK_STREAM, 0);
    const int connected = connect(connection, remote->ai_addr, remote->ai_addrlen);
    freeaddrinfo(remote);
    if (connected != 0) {
        perror("connect");
        return 1;
    }
    while ((got = read(STDIN_FILENO, bytes, sizeof(bytes))) > 0)
        if (send(connection, bytes, (size_t)got, 0) != got)
            return 1;
    if (hand_over(argv[3], connection, 5000) != 0) {
        perror("the target");
        return 1;
    }
    return 0;
}
