//! Both daemons as processes, a real llama.cpp behind them.
