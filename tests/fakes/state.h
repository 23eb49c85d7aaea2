/* A text file of "key value" lines that decides what a fake library answers; read again whenever it changes.
 *
 * The tests replace the file as a whole, so a new inode is a new state. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char state_text[65536];
static ino_t state_inode;

static const char *state_path(void) { return getenv(STATE_VARIABLE); }

static void state_refresh(void) {
    const char *path = state_path();
    struct stat now;
    if (!path || stat(path, &now)) { state_text[1] = 0; state_inode = 0; return; }
    if (now.st_ino == state_inode) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    state_text[0] = '\n'; /* every key is preceded by a line end */
    state_text[1 + fread(state_text + 1, 1, sizeof state_text - 2, file)] = 0;
    fclose(file);
    state_inode = now.st_ino;
}

/* Where the value of this key begins; NULL if the key is not there. */
static const char *state_value(const char *where, const char *key) {
    char line[160];
    int length = snprintf(line, sizeof line, "\n%s%s%s ", where, *where ? "." : "", key);
    const char *found = strstr(state_text, line);
    return found ? found + length : NULL;
}

static long long state_number(const char *where, const char *key, long long otherwise) {
    const char *text = state_value(where, key);
    return text ? strtoll(text, NULL, 10) : otherwise;
}

/* Copies the value up to the end of its line; 0 if the key is not there. */
static int state_copy(const char *where, const char *key, char *to, size_t size) {
    const char *text = state_value(where, key);
    if (!text) return 0;
    size_t length = strcspn(text, "\n");
    if (length >= size) length = size - 1;
    memcpy(to, text, length);
    to[length] = 0;
    return 1;
}

/* Writes a line "function where" to <state>.calls, if the state says "log 1". */
static inline void state_log(const char *function, const char *where) {
    char path[4096];
    if (!state_number("", "log", 0)) return;
    snprintf(path, sizeof path, "%s.calls", state_path());
    FILE *file = fopen(path, "a");
    if (!file) return;
    fprintf(file, "%s %s\n", function, where);
    fclose(file);
}
