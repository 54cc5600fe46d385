"""How fast Vireo is: against what people would use instead, and against what the machine can do."""
