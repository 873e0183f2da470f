#include "flue/flue.h"

const char* flue_opcode_name(uint8_t opcode) {
    switch (opcode) {
        case FLUE_OP_HOLD:
            return "HOLD";
        case FLUE_OP_OFFLOAD:
            return "OFFLOAD";
        case FLUE_OP_SEND:
            return "SEND";
        case FLUE_OP_RECV:
            return "RECV";
        case FLUE_OP_DISCONNECT:
            return "DISCONNECT";
        case FLUE_OP_TERMINATE:
            return "TERMINATE";
        case FLUE_OP_RELEASE:
            return "RELEASE";
        case FLUE_OP_QUERY:
            return "QUERY";
        case FLUE_OP_UPDATE:
            return "UPDATE";
        case FLUE_OP_INVALIDATE:
            return "INVALIDATE";
        case FLUE_OP_FORWARD:
            return "FORWARD";
        case FLUE_EVENT_DISCONNECT:
            return "EVENT_DISCONNECT";
        case FLUE_EVENT_ABORT:
            return "EVENT_ABORT";
        case FLUE_EVENT_UPLOAD_REQUEST:
            return "EVENT_UPLOAD_REQUEST";
        case FLUE_EVENT_DATA_AVAILABLE:
            return "EVENT_DATA_AVAILABLE";
        case FLUE_EVENT_DRAIN_DEADLINE:
            return "EVENT_DRAIN_DEADLINE";
        case FLUE_EVENT_SEND_BACKLOG:
            return "EVENT_SEND_BACKLOG";
        case FLUE_EVENT_REACHABILITY:
            return "EVENT_REACHABILITY";
        case FLUE_EVENT_REATTACHED:
            return "EVENT_REATTACHED";
        case FLUE_EVENT_PAUSE:
            return "EVENT_PAUSE";
        case FLUE_EVENT_UPLOAD_ALL:
            return "EVENT_UPLOAD_ALL";
        case FLUE_EVENT_RESUME:
            return "EVENT_RESUME";
        default:
            return "UNKNOWN";
    }
}

const char* flue_status_name(uint8_t status) {
    switch (status) {
        case FLUE_SUCCESS:
            return "SUCCESS";
        case FLUE_REQUEST_ABORTED:
            return "REQUEST_ABORTED";
        case FLUE_UPLOAD_IN_PROGRESS:
            return "UPLOAD_IN_PROGRESS";
        case FLUE_INVALID_STATE:
            return "INVALID_STATE";
        case FLUE_FAILURE:
            return "FAILURE";
        case FLUE_RESOURCES:
            return "RESOURCES";
        case FLUE_TCP_ENTRIES:
            return "TCP_ENTRIES";
        case FLUE_TCP_RCV_WINDOW:
            return "TCP_RCV_WINDOW";
        case FLUE_TCP_RCV_BUFFER:
            return "TCP_RCV_BUFFER";
        case FLUE_PARTIAL_SUCCESS:
            return "PARTIAL_SUCCESS";
        case FLUE_PATH_ENTRIES:
            return "PATH_ENTRIES";
        case FLUE_NEIGHBOR_ENTRIES:
            return "NEIGHBOR_ENTRIES";
        case FLUE_HW_ADDRESS_ENTRIES:
            return "HW_ADDRESS_ENTRIES";
        case FLUE_VLAN_MISMATCH:
            return "VLAN_MISMATCH";
        case FLUE_PATH_MTU:
            return "PATH_MTU";
        case FLUE_BAD_OPCODE:
            return "BAD_OPCODE";
        case FLUE_BAD_CONNECTION:
            return "BAD_CONNECTION";
        case FLUE_BAD_REGION:
            return "BAD_REGION";
        case FLUE_BAD_LENGTH:
            return "BAD_LENGTH";
        case FLUE_BAD_STATE:
            return "BAD_STATE";
        case FLUE_BAD_REQUEST:
            return "BAD_REQUEST";
        case FLUE_TUPLE_IN_USE:
            return "TUPLE_IN_USE";
        case FLUE_NOT_OWNER:
            return "NOT_OWNER";
        case FLUE_QUOTA:
            return "QUOTA";
        case FLUE_NOT_PERMITTED:
            return "NOT_PERMITTED";
        default:
            return "UNKNOWN";
    }
}

const char* flue_upload_reason_name(uint16_t reason) {
    switch (reason) {
        case FLUE_UPLOAD_LOW_ACTIVITY:
            return "LOW_ACTIVITY";
        case FLUE_UPLOAD_HIGH_DROP_RATE:
            return "HIGH_DROP_RATE";
        case FLUE_UPLOAD_SMALL_IO:
            return "SMALL_IO";
        case FLUE_UPLOAD_NO_BUFFER_PREPOSTING:
            return "NO_BUFFER_PREPOSTING";
        case FLUE_UPLOAD_RECEIVED_URGENT_DATA:
            return "RECEIVED_URGENT_DATA";
        case FLUE_UPLOAD_HIGH_FRAGMENTATION:
            return "HIGH_FRAGMENTATION";
        case FLUE_UPLOAD_HIGH_OUT_OF_ORDER:
            return "HIGH_OUT_OF_ORDER";
        case FLUE_UPLOAD_TIMEOUT_EXPIRATION:
            return "TIMEOUT_EXPIRATION";
        case FLUE_UPLOAD_INVALID_STATE:
            return "INVALID_STATE";
        case FLUE_UPLOAD_REQUESTED:
            return "REQUESTED";
        case FLUE_UPLOAD_HARDWARE_FAILURE:
            return "HARDWARE_FAILURE";
        default:
            return "UNKNOWN";
    }
}

const char* flue_tcp_state_name(uint8_t state) {
    switch (state) {
        case FLUE_TCP_CLOSED:
            return "CLOSED";
        case FLUE_TCP_ESTABLISHED:
            return "ESTABLISHED";
        case FLUE_TCP_FIN_WAIT_1:
            return "FIN-WAIT-1";
        case FLUE_TCP_FIN_WAIT_2:
            return "FIN-WAIT-2";
        case FLUE_TCP_CLOSE_WAIT:
            return "CLOSE-WAIT";
        case FLUE_TCP_CLOSING:
            return "CLOSING";
        case FLUE_TCP_LAST_ACK:
            return "LAST-ACK";
        case FLUE_TCP_TIME_WAIT:
            return "TIME-WAIT";
        default:
            return "UNKNOWN";
    }
}
