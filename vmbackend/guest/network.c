/* The guest's network: what DHCP would tell, told on the kernel's command line, so without a wait. */
#define _GNU_SOURCE
#include "agent.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define INTERFACE "eth0"
#define NETMASK "255.255.255.0"

static struct sockaddr address(const char *text)
{
    struct sockaddr_in inner = {.sin_family = AF_INET};
    struct sockaddr outer;

    if (inet_pton(AF_INET, text, &inner.sin_addr) != 1)
        fatal("address %s", text);
    memcpy(&outer, &inner, sizeof outer);
    return outer;
}

/* A file that the image has is the image's, but a link may lead to where nothing is yet. */
static void write_resolver(const char *nameserver)
{
    int file = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);

    if (file < 0)
        return;     /* an image without /etc asks nobody */
    dprintf(file, "nameserver %s\n", nameserver);
    close(file);
}

void bring_up_network(void)
{
    const char *own = getenv("ISOSCOPE_ADDRESS"), *gateway = getenv("ISOSCOPE_GATEWAY");
    const char *nameserver = getenv("ISOSCOPE_NAMESERVER");
    struct ifreq interface = {.ifr_name = INTERFACE};
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (!own)
        return;
    interface.ifr_addr = address(own);
    if (control < 0 || ioctl(control, SIOCSIFADDR, &interface))
        fatal("address of " INTERFACE);
    interface.ifr_netmask = address(NETMASK);
    if (ioctl(control, SIOCSIFNETMASK, &interface))
        fatal("netmask of " INTERFACE);
    interface.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(control, SIOCSIFFLAGS, &interface))
        fatal("up of " INTERFACE);
    if (gateway) {
        route.rt_gateway = address(gateway);
        route.rt_dst = route.rt_genmask = address("0.0.0.0");
        if (ioctl(control, SIOCADDRT, &route))
            fatal("route of " INTERFACE);
    }
    if (nameserver)
        write_resolver(nameserver);
    close(control);
}
