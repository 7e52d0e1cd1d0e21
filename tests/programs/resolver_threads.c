// resolver_threads.c - name service lookups from many threads: hosts, users, groups, services.
// Checks getaddrinfo(3), getpwnam_r(3), getgrgid_r(3) and getservbyname_r(3), all marked MT-Safe:
// each thread gets the answer that the first thread got alone. Only local files are asked.
// SPDX-License-Identifier: Apache-2.0
#include <grp.h>
#include <netdb.h>
#include <pwd.h>

#include "tests/programs/loopback.h"

enum { kThreads = 40, kRounds = 5 };

static void look_up_host(void) {
  struct addrinfo hints, *found = NULL;
  memset(&hints, 0, sizeof hints);
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  EXPECT_EQ(getaddrinfo("localhost", "80", &hints, &found), 0);
  const struct sockaddr_in* address = (const struct sockaddr_in*)found->ai_addr;
  EXPECT_EQ(ntohl(address->sin_addr.s_addr), INADDR_LOOPBACK);
  EXPECT_EQ(ntohs(address->sin_port), 80);
  freeaddrinfo(found);
  hints.ai_flags = AI_NUMERICHOST;
  EXPECT_EQ(getaddrinfo("not a number", NULL, &hints, &found), EAI_NONAME);
}

static void look_up_user(void) {
  struct passwd user, *user_found = NULL;
  struct group group, *group_found = NULL;
  char buffer[4096];
  EXPECT_OK(getpwnam_r("root", &user, buffer, sizeof buffer, &user_found));
  EXPECT(user_found == &user);
  EXPECT_EQ(user.pw_uid, 0);
  EXPECT_OK(getpwnam_r("weft-no-such-user", &user, buffer, sizeof buffer, &user_found));
  EXPECT(user_found == NULL);
  EXPECT_OK(getgrgid_r(0, &group, buffer, sizeof buffer, &group_found));
  EXPECT(group_found == &group);
  EXPECT_EQ(strcmp(group.gr_name, "root"), 0);
  EXPECT_EQ(getpwnam_r("root", &user, buffer, 1, &user_found), ERANGE);
}

static void look_up_service(void) {
  struct servent service, *found = NULL;
  char buffer[4096];
  const int error = getservbyname_r("http", "tcp", &service, buffer, sizeof buffer, &found);
  if (error != 0 || found == NULL) return;
  EXPECT_EQ(ntohs((uint16_t)service.s_port), 80);
}

static void* look_up_everything(void* argument) {
  for (int i = 0; i < kRounds; i++) {
    switch (((intptr_t)argument + i) % 3) {
      case 0:
        look_up_host();
        break;
      case 1:
        look_up_user();
        break;
      default:
        look_up_service();
    }
  }
  return NULL;
}

int main(void) {
  look_up_everything((void*)0);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) {
    threads[i] = start_thread(look_up_everything, (void*)(intptr_t)i);
  }
  for (int i = 0; i < kThreads; i++) join_thread(threads[i]);
  say("%d threads looked up hosts, users and services\n", kThreads);
  return 0;
}
