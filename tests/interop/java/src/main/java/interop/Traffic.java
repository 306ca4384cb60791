package interop;
/** placeholder. */
final class Traffic {
    Traffic(Options options, Findings findings) { }
    void run() { }
}
