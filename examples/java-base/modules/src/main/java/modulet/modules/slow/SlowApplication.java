package modulet.modules.slow;

import modulet.modules.Greeter;
import org.springframework.boot.Banner;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.annotation.Import;

/** A module that takes its time, five seconds if {@code --sleep} does not say otherwise. */
@SpringBootApplication(proxyBeanMethods = false)
@Import(Greeter.class)
public class SlowApplication {
    public static void main(String[] args) {
        new SpringApplicationBuilder(SlowApplication.class)
                .bannerMode(Banner.Mode.OFF)
                .properties("sleep=5000")
                .run(args);
    }
}
