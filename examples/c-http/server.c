/* A minimal HTTP server as a function: one connection at a time, one request per connection. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void answer(int client)
{
    char head[16384], target[1024] = "", reply[2048];
    size_t have = 0;
    ssize_t got;

    head[0] = '\0';
    while (!strstr(head, "\r\n\r\n") && have < sizeof head - 1) {
        got = read(client, head + have, sizeof head - 1 - have);
        if (got <= 0)
            return;
        head[have += got] = '\0';
    }
    sscanf(head, "%*s %1023s", target);
    int length = snprintf(reply, sizeof reply, "C: %s\n", target);
    dprintf(client, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
            length, reply);
}

int main(void)
{
    const char *port = getenv("PORT");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    int server = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    signal(SIGPIPE, SIG_IGN);
    address.sin_port = htons(port ? atoi(port) : 8000);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 128)) {
        perror("server");
        return 1;
    }
    for (;;) {
        int client = accept(server, NULL, NULL);
        if (client >= 0) {
            answer(client);
            close(client);
        }
    }
}
