/* flue.h is C11: this program is compiled as such, links libflue.so alone and calls into each of
 * its parts. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "flue/flue.h"

static int failures;

static void expect(int condition, const char *text)
{
    if (!condition) {
        printf("failed: %s\n", text);
        ++failures;
    }
}

int main(void)
{
    struct flue_state state;
    memset(&state, 0, sizeof(state));
    flue_state_seal(&state);
    expect(flue_state_check(&state) == 0, "a sealed state checks");
    state.cwnd = 1;
    expect(flue_state_check(&state) == -1, "a changed state does not");

    expect(strcmp(flue_opcode_name(FLUE_OP_SEND), "SEND") == 0, "opcode name");
    expect(strcmp(flue_status_name(FLUE_SUCCESS), "SUCCESS") == 0, "status name");

    const struct flue_open_options options = {.name = "c_header", .on_loss = FLUE_LOSS_ABORT};
    expect(flue_open("/nonexistent/flue", &options) == NULL && errno == ENOENT,
           "no target, no session");
    expect(strstr(flue_error_text(), "flued") != NULL, "the error text says what to start");
    return failures;
}
