#pragma once

#include "flue/flue.h"
